//! The command line's words and flags.

mod account;
mod devices;
mod flags;
mod history;
mod letters;
mod number;
mod recording;
mod screening;
mod terminals;
mod words;

use clap::{Args, Parser, Subcommand};
use std::net::SocketAddr;
use std::path::PathBuf;

pub use account::{AccountCmd, AtDirectory};
pub use devices::{DevicesCmd, DevicesTestArgs, DevicesUseArgs};
pub use flags::{NetworkArgs, SoundArgs, TurnUri};
pub use history::{HistoryArgs, HistoryCmd};
pub use letters::{MessagesArgs, MessagesCmd, VoicemailCmd};
pub use number::NumberCmd;
pub use recording::{Record, RecordArgs, RecordingCmd};
pub use screening::{BlockCmd, DndCmd, RejectArgs, StrangersMay};
pub use terminals::TerminalsCmd;
pub use words::{Answer, Presence, Serve, Switch, Transfers, VisibleTo};

const EXAMPLES: &str = "\
Examples:
  offhook account new ada              make an account; it gets a number
  offhook run                          go on line, ring, take commands
  offhook dial 4821 0937 5567          call a number
  offhook dial ada@example.org         call a number that a directory has issued
  offhook text 4821 0937 5567 Hello    send a text message
  offhook link                         an invitation link and QR code to give away

Exit codes:
  0 ok  1 failed  2 bad input  3 no account  4 wrong password  5 account exists
  6 no terminal runs  7 off line  8 account in use  10 busy  11 declined
  12 no answer  13 unreachable  14 wrong number  15 blocked  16 key changed
  17 no sound connection  130 interrupted";

/// A telephone without an operator.
#[derive(Debug, Parser)]
#[command(name = "offhook", version, about, after_help = EXAMPLES, disable_help_subcommand = true)]
pub struct Cli {
    /// Flags of every command.
    #[command(flatten)]
    pub global: Global,
    /// What to do.
    #[command(subcommand)]
    pub command: Cmd,
}

/// Flags of every command.
#[derive(Debug, Clone, Args)]
#[command(next_help_heading = "Every command")]
pub struct Global {
    /// Directory of accounts and configuration [default: ~/.local/share/offhook]
    #[arg(long, global = true, env = "OFFHOOK_HOME", value_name = "DIR", hide_env_values = true)]
    pub home: Option<PathBuf>,
    /// Account to use instead of the current one
    #[arg(long, global = true, env = "OFFHOOK_ACCOUNT", value_name = "ID", hide_env_values = true)]
    pub account: Option<String>,
    /// Print JSON, one object a line
    #[arg(long, global = true)]
    pub json: bool,
}

/// The commands.
#[derive(Debug, Subcommand)]
pub enum Cmd {
    /// Make, choose and change accounts
    #[command(subcommand)]
    Account(AccountCmd),
    /// Go on line: ring, answer, take commands on standard input and the control socket
    #[command(after_help = "\
Examples:
  offhook run                              use the default microphone and loudspeaker
  offhook run --answer machine --machine-after 15
  offhook run --all                        every account of this folder
  offhook run --answer auto --mic file:greeting.wav --speaker 'file:{time}-{number}.wav'
  offhook run --json --metrics 127.0.0.1:9107 < /dev/null
  offhook run --entry /dns/phone.example.org/udp/4001/quic-v1/p2p/12D3Koo...

Type `help` while it runs to see the commands.")]
    Run(Box<RunArgs>),
    /// Call a number, a contact's name or an invitation link
    #[command(after_help = "\
The call is made by the running terminal if there is one, otherwise by this program itself.
Ctrl-C hangs up. Lines typed during the call are commands as in `offhook run`: `dtmf 1`, `mute on`, `help`.

Examples:
  offhook dial 4821 0937 5567
  offhook dial ada@example.org
  offhook dial ada               a contact, or else a number of your own directory
  offhook dial 'offhook:482109375567?key=...&via=...'
  offhook dial --mic file:hello.wav --speaker none 4821-0937-5567")]
    Dial(Box<DialArgs>),
    /// Answer the call that rings
    #[command(after_help = "\
A call in which you talk is put on hold.

Examples:
  offhook answer
  offhook answer 9f3a...    of several that ring, this one")]
    Answer(CallArg),
    /// Decline the call that rings
    #[command(after_help = "\
Examples:
  offhook reject
  offhook reject 9f3a...       of several that ring, this one
  offhook reject --voicemail   the caller is told to leave a message
  offhook reject --block       and hear of the caller no more")]
    Reject(RejectArgs),
    /// People of whom you do not want to hear
    #[command(subcommand)]
    Block(BlockCmd),
    /// Do not disturb: when nothing is to ring, and for whom all the same
    #[command(after_help = "\
Whoever calls meanwhile is told to leave a message; the answering machine takes contacts' calls if it is on. What did not ring:
`offhook history refused`. What holds at one terminal holds at all, if the account keeps a backup at a directory.

Examples:
  offhook dnd                               what holds
  offhook dnd on --minutes 90
  offhook dnd schedule mon-fri 22:00-7:00
  offhook dnd except --always Ada
  offhook dnd off")]
    Dnd {
        /// What to do; what holds is shown without it
        #[command(subcommand)]
        command: Option<DndCmd>,
    },
    /// What strangers may: ring, work, voicemail or refuse
    #[command(after_help = "\
Strangers are all who are no contacts. With work, the first few ring as always; while many call, each has its terminal solve a
puzzle first, which takes longer the more of them call.

Examples:
  offhook strangers             what holds
  offhook strangers voicemail   only contacts ring, strangers may leave a message")]
    Strangers {
        /// What they may
        may: Option<StrangersMay>,
    },
    /// End the call
    #[command(after_help = "\
Without an identifier the call in which you talk is meant, before one on hold, and that before one that rings.

Examples:
  offhook hangup
  offhook hangup 9f3a...")]
    Hangup(CallArg),
    /// Silence the microphone, or open it again
    #[command(after_help = "Examples:\n  offhook mute on\n  offhook mute off")]
    Mute(MuteArgs),
    /// Put the call on hold, where the other end hears music, or take it back
    #[command(after_help = "\
Taking one call back puts the one in which you talk on hold.

Examples:
  offhook hold on
  offhook hold off
  offhook hold off 9f3a...    of several on hold, this one")]
    Hold(HoldArgs),
    /// Record the call, or refuse to be recorded
    #[command(after_help = "\
The other end is asked first, told by an event and hears a short tone every 15 seconds; it may refuse at any
time. `record on` waits until the recording has begun; if the other end does not want it, or does not answer within
8 seconds, it says so and its exit code is 1. Recordings are files of Ogg Opus with one track for each voice; see
`offhook recording --help`.

Examples:
  offhook record on
  offhook record off
  offhook record refuse    this call is not to be recorded by the other end")]
    Record(RecordArgs),
    /// Recordings of calls, and messages that callers have left
    #[command(subcommand)]
    Recording(RecordingCmd),
    /// Change from the call in which you talk to the one on hold
    #[command(after_help = "\
A call that comes in while you talk waits; `offhook answer` takes it and puts the other one on hold, as a second
`offhook dial` does. When one of the two ends, the other stays on hold until `offhook hold off` or `offhook swap`.")]
    Swap,
    /// Have the other end of the call talk with somebody else instead
    #[command(after_help = "\
The other end's user is asked. When the two talk, the call ends here; if nothing comes of it, it goes on.

Examples:
  offhook transfer 4821 0937 5567   the other end is to call this number
  offhook transfer                  of two calls, the one on hold is passed on to the other")]
    Transfer {
        /// Number, contact or invitation link; without it the other end of the call in which you talk
        #[arg(num_args = 0.., value_name = "NUMBER")]
        number: Vec<String>,
        /// The call to pass on, by its identifier from `offhook status`
        #[arg(long)]
        call: Option<String>,
    },
    /// Consent to being transferred, as the other end of a call asks for, or don't
    #[command(after_help = "\
You have half a minute; who says nothing has not consented.

Examples:
  offhook follow
  offhook follow --no")]
    Follow {
        /// The call's identifier from `offhook status`; the one whose other end asks without it
        call: Option<String>,
        /// Don't
        #[arg(long)]
        no: bool,
    },
    /// Tell or set how you are, for your contacts
    #[command(after_help = "\
Contacts whose keys are known are told, over encrypted messages of their own; nothing is public. During a call they are
told that you are in one, and while you do not want to be disturbed (`offhook dnd`) that. `presence dnd` is `dnd on`; another
presence is `dnd off`.

Examples:
  offhook presence away back at five
  offhook presence dnd
  offhook presence available
  offhook presence --visible-to verified   only contacts with whom you compared words
  offhook presence --visible-to nobody     tell nobody, and ask nobody")]
    Presence {
        /// How you are
        #[arg(value_name = "available|away|dnd|offline", hide_possible_values = true)]
        state: Option<Presence>,
        /// In your own words
        #[arg(num_args = 0.., value_name = "TEXT")]
        text: Vec<String>,
        /// Who is told
        #[arg(long, value_name = "WHO")]
        visible_to: Option<VisibleTo>,
    },
    /// Tell or set how loud it is
    #[command(after_help = "\
Examples:
  offhook volume                tell both volumes
  offhook volume 80             the loudspeaker, in this call and later ones
  offhook volume 120 9f3a...    in this call alone
  offhook volume --ringer 30    the bell")]
    Volume {
        /// 0 to 200 percent of the sound as it comes
        #[arg(value_parser = clap::value_parser!(u16).range(0..=200))]
        percent: Option<u16>,
        /// The call's identifier from `offhook status`; all and later ones without it
        call: Option<String>,
        /// The bell instead of the loudspeaker
        #[arg(long, requires = "percent", conflicts_with = "call")]
        ringer: bool,
    },
    /// Press keys in the call
    #[command(after_help = "Examples:\n  offhook dtmf 1\n  offhook dtmf '42#'")]
    Dtmf {
        /// 0 to 9, *, # and A to D, at most 24
        keys: String,
        /// The call's identifier from `offhook status`; the one in which people talk without it
        call: Option<String>,
    },
    /// Send a text message
    #[command(
        override_usage = "offhook text [OPTIONS] NUMBER MESSAGE...",
        after_help = "Example:\n  offhook text 4821 0937 5567 See you at five"
    )]
    Text(Box<TextArgs>),
    /// Is a number there, and on line?
    Lookup(Box<LookupArgs>),
    /// The state of the running terminal
    #[command(after_help = "Examples:\n  offhook status\n  offhook status --json | jq .calls")]
    Status,
    /// How a call goes, a line a second until it is over
    #[command(after_help = "\
Path, estimated quality (ITU-T G.107.2: good, fair or poor, and a mean opinion score up to 4.5), round trip, loss here and there, jitter,
delay of the jitter buffer, what was concealed, copies that are sent, bit rates. Ctrl-C ends it, not the call.

Examples:
  offhook stats
  offhook stats --json | jq .mos")]
    Stats(CallArg),
    /// The calls that are over, the last one first; missed ones are marked
    #[command(after_help = "\
Examples:
  offhook history --limit 5
  offhook history refused   the calls that did not ring, and why
  offhook history clear")]
    History(HistoryArgs),
    /// The text messages that are kept, the last one first
    #[command(after_help = "Examples:\n  offhook messages --with Bob --limit 5\n  offhook messages read Bob")]
    Messages(MessagesArgs),
    /// Voice messages: those in the mailbox, and one for somebody who cannot be talked with
    #[command(subcommand)]
    Voicemail(VoicemailCmd),
    /// End the running terminal
    Shutdown,
    /// The sound devices: list, choose and test them
    #[command(after_help = "\
Examples:
  offhook devices                              those present; `*` is the system's default
  offhook devices use --mic ID --speaker ID    from now on, in a call that lasts as well
  offhook devices test                         hear yourself before you call")]
    Devices {
        /// What to do with them; they are listed without it
        #[command(subcommand)]
        command: Option<DevicesCmd>,
    },
    /// The contacts
    #[command(subcommand)]
    Contact(ContactCmd),
    /// The directories whose numbers you dial
    #[command(subcommand)]
    Directory(DirectoryCmd),
    /// Words and digits of the present call, to compare by voice
    #[command(after_help = "\
Each reads them to the other. If they are the same at both ends, nobody is in between.

Examples:
  offhook verify
  offhook verify --confirm    they were the same")]
    Verify {
        /// The words were the same: remember the other end as verified
        #[arg(long)]
        confirm: bool,
    },
    /// The terminals of the account: list them, put one out
    Terminals {
        /// What to do; they are listed without it
        #[command(subcommand)]
        command: Option<TerminalsCmd>,
    },
    /// Chosen numbers of the account: list, claim, renew, release, give away
    #[command(subcommand)]
    Number(NumberCmd),
    /// An invitation link to this account, and its QR code
    Link {
        /// Print the link alone
        #[arg(long)]
        no_qr: bool,
    },
    /// A script that completes commands in your shell
    #[command(
        after_help = "Example:\n  offhook completions bash > ~/.local/share/bash-completion/completions/offhook"
    )]
    Completions {
        /// Which shell
        shell: clap_complete::Shell,
    },
    /// A systemd unit that keeps this terminal on line from log-in
    Service {
        /// Write it to the user's systemd directory instead of printing it
        #[arg(long)]
        install: bool,
    },
}

/// `offhook contact ...`
#[derive(Debug, Subcommand)]
pub enum ContactCmd {
    /// Give a number a name
    #[command(
        override_usage = "offhook contact add [OPTIONS] NUMBER NAME...",
        after_help = "Examples:\n  offhook contact add 4821 0937 5567 Ada\n  offhook contact add 'offhook:482109375567?key=...' Ada"
    )]
    Add {
        /// Number or invitation link, then the name
        #[arg(required = true, num_args = 1.., value_name = "NUMBER NAME")]
        words: Vec<String>,
    },
    /// List the contacts
    List,
    /// Remove a contact
    Remove {
        /// Name or number
        #[arg(required = true, num_args = 1.., value_name = "CONTACT")]
        contact: Vec<String>,
    },
    /// Accept a contact's changed key
    Confirm {
        /// Name or number
        #[arg(required = true, num_args = 1.., value_name = "CONTACT")]
        contact: Vec<String>,
    },
}

/// `offhook directory ...`
#[derive(Debug, Subcommand)]
#[command(after_help = "\
A number with an @ is one that a directory has issued. When one of its numbers is dialled for the first time the directory is asked
who it is, at https://NAME; from then on its key is remembered, and its numbers can be dialled while its site is down.

Examples:
  offhook directory list
  offhook directory home example.org      `offhook dial ada` means ada@example.org
  offhook directory add example.org KEY   its site is down, and somebody has told you its key")]
pub enum DirectoryCmd {
    /// List the directories whose keys are remembered; `*` is that of numbers without one
    List,
    /// Choose the directory of numbers that you dial without one
    Home {
        /// Its DNS name; the one of your account without it
        name: Option<String>,
    },
    /// Remember a directory's key that somebody you trust has told you
    Add {
        /// Its DNS name
        name: String,
        /// 64 hexadecimal digits, from `offhook directory list` of somebody who knows it
        key: String,
    },
    /// Accept the other key that a directory's site names
    Confirm {
        /// Its DNS name
        name: String,
    },
}

/// `offhook run`
#[derive(Debug, Default, Args)]
pub struct RunArgs {
    /// All accounts of the home folder at the same time, in one program; commands are given from elsewhere: offhook --account ID ...
    #[arg(long, conflicts_with = "metrics")]
    pub all: bool,
    /// Let calls ring (manual), answer every call at once (auto), or let the answering machine take what nobody answers
    /// (machine) [default: manual]
    #[arg(
        long,
        env = "OFFHOOK_ANSWER",
        value_name = "manual|auto|machine",
        hide_possible_values = true,
        hide_env_values = true
    )]
    pub answer: Option<Answer>,
    /// Who calls during another call hears busy, instead of waiting while a tone tells you; always so with --answer auto, but not
    /// with --answer machine, which takes what waits for too long
    #[arg(long, env = "OFFHOOK_NO_CALL_WAITING", value_name = "BOOL", num_args = 0..=1, require_equals = true,
          default_missing_value = "true", hide_possible_values = true, hide_env_values = true)]
    pub no_call_waiting: Option<bool>,
    /// Whose requests to talk with somebody else instead (transfers) are shown: contacts, everybody or nobody [default: contacts]
    #[arg(long, env = "OFFHOOK_TRANSFERS", value_name = "WHOSE", hide_env_values = true)]
    pub transfers: Option<Transfers>,
    /// Seconds it rings at most, 1 to 600; with an answering machine more than --machine-after [default: 45]
    #[arg(long, env = "OFFHOOK_RING_TIMEOUT", value_name = "SECONDS", hide_env_values = true,
          value_parser = clap::value_parser!(u64).range(1..=600))]
    pub ring_timeout: Option<u64>,
    /// Seconds it rings before the answering machine answers, 1 to 600 and less than --ring-timeout [default: 20]
    #[arg(long, env = "OFFHOOK_MACHINE_AFTER", value_name = "SECONDS", hide_env_values = true,
          value_parser = clap::value_parser!(u64).range(1..=600))]
    pub machine_after: Option<u64>,
    /// Seconds of a message on the answering machine at most, 10 to 600 [default: 180]
    #[arg(long, env = "OFFHOOK_MACHINE_LIMIT", value_name = "SECONDS", hide_env_values = true,
          value_parser = clap::value_parser!(u64).range(10..=600))]
    pub machine_limit: Option<u64>,
    /// Don't let others record calls
    #[arg(long, env = "OFFHOOK_REFUSE_RECORDING", value_name = "BOOL", num_args = 0..=1, require_equals = true,
          default_missing_value = "true", hide_possible_values = true, hide_env_values = true)]
    pub refuse_recording: Option<bool>,
    /// Serve Prometheus metrics at http://IP:PORT/metrics, and /health
    #[arg(long, env = "OFFHOOK_METRICS", value_name = "IP:PORT", hide_env_values = true)]
    pub metrics: Option<SocketAddr>,
    /// Network flags.
    #[command(flatten)]
    pub network: NetworkArgs,
    /// Sound flags.
    #[command(flatten)]
    pub sound: SoundArgs,
}

/// `offhook dial`
#[derive(Debug, Args)]
pub struct DialArgs {
    /// Number, contact or invitation link
    #[arg(required = true, num_args = 1.., value_name = "NUMBER")]
    pub number: Vec<String>,
    /// Seconds it rings at most, 1 to 600 [default: 45]
    #[arg(long, env = "OFFHOOK_RING_TIMEOUT", value_name = "SECONDS", hide_env_values = true,
          value_parser = clap::value_parser!(u64).range(1..=600))]
    pub ring_timeout: Option<u64>,
    /// Network flags.
    #[command(flatten)]
    pub network: NetworkArgs,
    /// Sound flags.
    #[command(flatten)]
    pub sound: SoundArgs,
}

/// `offhook text`
#[derive(Debug, Args)]
pub struct TextArgs {
    /// Number, contact or invitation link, then the message
    #[arg(required = true, num_args = 1.., value_name = "NUMBER MESSAGE")]
    pub words: Vec<String>,
    /// Network flags.
    #[command(flatten)]
    pub network: NetworkArgs,
}

/// `offhook lookup`
#[derive(Debug, Args)]
pub struct LookupArgs {
    /// Number or contact
    #[arg(required = true, num_args = 1.., value_name = "NUMBER")]
    pub number: Vec<String>,
    /// Network flags.
    #[command(flatten)]
    pub network: NetworkArgs,
}

/// `offhook mute`
#[derive(Debug, Args)]
pub struct MuteArgs {
    /// From now on, or no longer
    #[arg(value_name = "on|off", hide_possible_values = true)]
    pub state: Switch,
    /// The call's identifier from `offhook status`; the one in which people talk without it
    pub call: Option<String>,
}

/// `offhook hold`
#[derive(Debug, Args)]
pub struct HoldArgs {
    /// From now on, or no longer
    #[arg(value_name = "on|off", hide_possible_values = true)]
    pub state: Switch,
    /// The call's identifier from `offhook status`; without it `on` is for the one in which people talk, `off` for the one that
    /// has been on hold longest
    pub call: Option<String>,
}

/// Which call, where there may be several.
#[derive(Debug, Args)]
pub struct CallArg {
    /// The call's identifier from `offhook status`; the oldest that fits without it
    pub call: Option<String>,
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory as _;

    #[test]
    fn the_definition_is_consistent() {
        Cli::command().debug_assert();
    }

    #[test]
    fn numbers_may_be_typed_in_groups() {
        let cli = Cli::try_parse_from(["offhook", "dial", "4821", "0937", "5567", "--json"]).unwrap();
        assert!(cli.global.json);
        let Cmd::Dial(args) = cli.command else { unreachable!("{:?}", cli.command) };
        assert_eq!(args.number.join(" "), "4821 0937 5567");
    }

    #[test]
    fn switches_can_be_taken_back() {
        let parse = |flags: &[&str]| {
            let words = ["offhook", "run"].iter().chain(flags);
            let command = Cli::try_parse_from(words).unwrap().command;
            let Cmd::Run(args) = command else { unreachable!("{command:?}") };
            args.network
        };
        assert_eq!(parse(&["--no-mdns"]).no_mdns, Some(true));
        assert_eq!(parse(&["--no-mdns=false"]).no_mdns, Some(false));
        assert_eq!(parse(&[]).no_mdns, None);
        assert_eq!(parse(&["--serve", "off"]).serve, Some(Serve::Off));
        assert_eq!(parse(&["--entry", "/a", "--entry", "/b,/c"]).entry.unwrap(), ["/a", "/b", "/c"]);
    }

    #[test]
    fn nonsense_is_refused() {
        for words in [
            &["offhook"][..],
            &["offhook", "dial"],
            &["offhook", "run", "--ring-timeout", "0"],
            &["offhook", "run", "--answer", "maybe"],
            &["offhook", "volume", "201"],
            &["offhook", "volume", "--ringer"],
            &["offhook", "run", "--serve", "sometimes"],
            &["offhook", "run", "--server"],
            &["offhook", "history", "--limit", "0"],
            &["offhook", "history", "--limit", "1001"],
            &["offhook", "history", "forget"],
            &["offhook", "run", "--metrics", "here"],
            &["offhook", "run", "--all", "--metrics", "127.0.0.1:9107"],
            &["offhook", "devices", "use"],
            &["offhook", "devices", "--mic", "none"],
        ] {
            assert!(Cli::try_parse_from(words).is_err(), "{words:?}");
        }
    }
}
