//! `offhook reject`, `offhook block ...`, `offhook dnd ...` and `offhook strangers`.

use clap::{Args, Subcommand, ValueEnum};

use super::Switch;

/// `offhook reject`
#[derive(Debug, Args)]
pub struct RejectArgs {
    /// The call's identifier from `offhook status`; the oldest that rings without it
    pub call: Option<String>,
    /// Have the caller leave a message
    #[arg(long, conflicts_with = "block")]
    pub voicemail: bool,
    /// Hear of the caller no more
    #[arg(long)]
    pub block: bool,
}

/// `offhook block ...`
#[derive(Debug, Subcommand)]
pub enum BlockCmd {
    /// Hear of somebody no more: calls do not ring, messages are not kept
    #[command(after_help = "Examples:\n  offhook block add 4821 0937 5567\n  offhook block add Ada")]
    Add {
        /// Number, contact's name or invitation link
        #[arg(required = true, num_args = 1.., value_name = "NUMBER")]
        number: Vec<String>,
    },
    /// Hear of somebody again
    Remove {
        /// Number, contact's name, or the key's fingerprint from `offhook block list`
        #[arg(required = true, num_args = 1.., value_name = "NUMBER")]
        number: Vec<String>,
    },
    /// Who is blocked
    List,
}

/// `offhook dnd ...`
#[derive(Debug, Subcommand)]
pub enum DndCmd {
    /// Nothing rings from now on
    #[command(after_help = "Examples:\n  offhook dnd on\n  offhook dnd on --minutes 90")]
    On {
        /// For so long; without it until `offhook dnd off`
        #[arg(long, value_name = "N")]
        minutes: Option<u32>,
    },
    /// Whatever is welcome rings again; the times of `offhook dnd schedule` stay
    Off,
    /// Times at which nothing rings, in the place of those before
    #[command(after_help = "\
By this computer's local time. Days are mon tue wed thu fri sat sun, ranges of them, or daily; a time that ends before it
begins ends on the next day.

Examples:
  offhook dnd schedule daily 22:00-7:00
  offhook dnd schedule mon-fri 22:00-7:00 sat,sun 23:30-9:00
  offhook dnd schedule none")]
    Schedule {
        /// Days and times, or none
        #[arg(required = true, num_args = 1.., value_name = "DAYS TIMES")]
        words: Vec<String>,
    },
    /// Who rings all the same
    #[command(after_help = "\
Examples:
  offhook dnd except --always Ada        this contact, always
  offhook dnd except --not-always Ada    not any more
  offhook dnd except --contacts on       all contacts; strangers do not
  offhook dnd except --again on          contacts who call twice within three minutes")]
    Except(ExceptArgs),
    /// What holds
    Show,
}

/// `offhook dnd except`
#[derive(Debug, Args)]
#[group(required = true, multiple = true)]
pub struct ExceptArgs {
    /// A contact who always rings, by number or name
    #[arg(long, value_name = "CONTACT")]
    pub always: Option<String>,
    /// A contact who does not always ring any more
    #[arg(long, value_name = "CONTACT")]
    pub not_always: Option<String>,
    /// Whether all contacts ring
    #[arg(long, value_name = "on|off", hide_possible_values = true)]
    pub contacts: Option<Switch>,
    /// Whether a contact who calls twice within three minutes rings
    #[arg(long, value_name = "on|off", hide_possible_values = true)]
    pub again: Option<Switch>,
}

/// What strangers may.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum StrangersMay {
    /// Ring, however many call
    Ring,
    /// Ring; while many of them call, their terminals have to work for it first
    Work,
    /// Leave a message: only contacts ring
    Voicemail,
    /// Nothing: only contacts ring
    Refuse,
}
