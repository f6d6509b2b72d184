"""True metrics of WebRTC tunnels, rebuilt from debug logs."""
