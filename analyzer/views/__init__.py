"""Tables → people and programs: one file per view. Views take what they show and return text or plain values."""
