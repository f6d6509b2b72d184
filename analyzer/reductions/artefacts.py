"""Known artefacts: what in a log looks like network time and is none, each with its name and a log that shows it.

Where one makes an estimate unsound, `refused_reason` begins with its name. A new one is one more value here, used where
it strikes; the tests look for its evidence.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Artefact:
    """Something that passes for network time: where it comes from, and what is done about it."""

    name: str
    #: where it comes from
    doc: str
    #: which estimates it refuses or widens, or how they leave it out
    effect: str
    #: where it can be seen, below `fixtures/`
    evidence: tuple[str, ...]
    #: what `refused_reason` says behind the name, of one that refuses
    refuses: str = ""

    @property
    def reason(self) -> str:
        """The reason of an estimate that it refuses."""
        return f"{self.name}: {self.refuses}"


SIX_SECOND_SLEEP = Artefact(
    "six_second_sleep",
    "Releases 1.0 to 1.2 sleep up to 6 s in the callback that ends gathering; states of that time are told when it is over.",
    "Refused: dtls_handshake and state_change of ice_connection_establishment whose start or end falls into the sleep.",
    ("captured/1.0.0/D-relay-client",),
    refuses="the library held its callbacks back",
)
#: the same where the line that tells it may stand before the log
MAY_BE_HELD = f"{SIX_SECOND_SLEEP.name}: the log lacks the gathering, in which callbacks may have been held back"
FIRST_CONVERSATION = Artefact(
    "first_conversation",
    "The first gathering of a process begins late: what is made on first use comes before the first request, some 2 ms,"
    " and more on a busy machine. Handshakes do not show it.",
    "Widened: the lower bound of gathering_… and host_to_… estimates of a tube's first generation gives way by 10 ms more. A log"
    " may begin later than its process, so none is known not to be the first; nothing is taken off the value.",
    ("captured/2.2.9/O-conversation-reused", "captured/2.2.9/M3-router-down"),
)
TWO_SRFLX = Artefact(
    "two_srflx",
    "A stun: and a turn: URL of one server each give a server-reflexive candidate, so an interface has two.",
    "The first of a generation ends the span of a STUN response; the second is a candidate and no further response.",
    ("captured/2.2.9/D-relay-client",),
)
NOMINATION_WAIT = Artefact(
    "nomination_wait",
    "The ICE agent waits 0, 500, 1000 or 2000 ms, by the types of candidates, before it nominates a pair.",
    "ice_connection_establishment holds it and setup_phases.wait_ms tells it apart; no leg is timed from checks.",
    ("captured/2.2.9/D-relay-client", "captured/2.2.9/C-srflx-nat"),
)
WHOLE_SECOND_TIMES = Artefact(
    "whole_second_times",
    "Some dialects cut times to whole seconds.",
    "Refused: every estimate between two such times; its bounds stand.",
    ("captured/2.2.9/A-host-trickle-service-format",),
    refuses="times have whole seconds",
)
CLOCK_SET_BACK = Artefact(
    "clock_set_back",
    "A clock that was corrected, or local time at the end of daylight-saving time, goes back while a tube is open: spans"
    " over that moment are too short. Times that fall tell it; a step smaller than the silence around it shows nowhere.",
    "Refused: every estimate whose span may hold the moment. Phases of the set-up around it have no duration.",
    ("cases/clock_set_back",),
    refuses="the times of its log fall",
)
FLIGHT_REPEATED = Artefact(
    "flight_repeated",
    "A flight of the DTLS handshake that is lost is sent again after a second, and after each further one; what makes"
    " the SCTP association after three.",
    "Refused: dtls_handshake and dtls_flights over a second or more, sctp_association over three, unless the handshakes of both"
    " sides agree for one number of repetitions alone, which are taken off then. Lower bounds give way by as many as there may be.",
    ("cases/flight_repeated",),
    refuses="it may hold the wait for each flight that was lost",
)
REQUEST_REPEATED = Artefact(
    "request_repeated",
    "A request to the relay that is not answered is sent again after 200 ms, then after twice as long each time; a relay"
    " that answers slowly or a lost packet makes a leg by hundreds of milliseconds too long.",
    "Widened: lower bounds of spans over an allocation, unless the reflexive candidate, which is asked for once, was as"
    " slow. Refused: those that are longer than what end to end leaves of a path through one relay.",
    ("cases/lossy",),
    refuses="end to end is shorter, so a request to the relay was sent again",
)
HELD_UP = Artefact(
    "held_up",
    "A handshake on a busy machine waits for the work of other sessions, keys and signatures above all.",
    "Refused: end to end estimates that are longer than the allocations of both sides on one relay allow, or than another's"
    " upper bound.",
    ("cases/lossy",),
    refuses="the others of its path are shorter",
)
EPOCH_VALUES = Artefact(
    "epoch_values",
    "From 2.1 on two places tell the collector of gathering, one in epoch ms and one in ms since the connection was made;"
    " its durations are also taken from one to the other.",
    "Refused: reported durations of gathering outside 0 to 600,000 ms.",
    ("captured/2.2.9/D-relay-client",),
    refuses="the end and the start are of two clocks",
)
FIRST_CANDIDATE_CLOCK = Artefact(
    "first_candidate_clock",
    "In 1.6 and 2.0 the collector is told of the start of gathering with the first candidate, so its durations lack what came before.",
    "Refused: reported durations of gathering whose start was told in ms since the connection was made, unless the first"
    " candidate is a host, which comes with the set-up: they are lower bounds. Widened upwards otherwise.",
    ("captured/1.6.2/D-relay-client",),
    refuses="it counts from the first candidate",
)
TOLD_LATE = Artefact(
    "told_late",
    "On a busy machine the line that begins a span may be written tens of milliseconds late, and the span is too short.",
    "Refused: an end to end estimate that agrees with no other, and is shorter than two can be that do, of two exchanges"
    " (DTLS, SCTP, a check); its bounds do not stand.",
    ("cases/told_late", "cases/trace"),
    refuses="others that agree are longer",
)
OTHER_SERVER = Artefact(
    "other_server",
    "STUN may be asked elsewhere than TURN, and either side may have a relay of its own: what answers first is another"
    " server than the relay of the path.",
    "Refused: reflexive candidates of a tube whose STUN server is not its TURN server, and all that a tube timed whose"
    " relay is not the one of the path, unless it was that one which answered. Their bounds do not stand.",
    ("cases/two_relays",),
    refuses="it may be of another server than the relay of the path",
)

ARTEFACTS = (
    SIX_SECOND_SLEEP,
    FIRST_CONVERSATION,
    TWO_SRFLX,
    NOMINATION_WAIT,
    WHOLE_SECOND_TIMES,
    CLOCK_SET_BACK,
    FLIGHT_REPEATED,
    REQUEST_REPEATED,
    HELD_UP,
    EPOCH_VALUES,
    FIRST_CANDIDATE_CLOCK,
    TOLD_LATE,
    OTHER_SERVER,
)
