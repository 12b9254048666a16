//! `offhook number ...`

use clap::Subcommand;

/// `offhook number ...`
#[derive(Debug, Subcommand)]
pub enum NumberCmd {
    /// List the chosen numbers
    List,
    /// Get a number of one's own choice from the account's directory
    #[command(after_help = "\
Any script and symbols, up to 32 characters; a directory gives each number once, and none that looks like another. It is dialled
as NAME@DIRECTORY from anywhere. The directory certifies it for 180 days and renews that when asked; a running
terminal asks by itself.

Examples:
  offhook number claim ada
  offhook number claim 홍길동
  offhook number claim ada@example.net          if the account has several directories
  offhook number claim ada --transfer CODE      somebody has given it to you")]
    Claim {
        /// The number
        number: String,
        /// The code that its owner got from `offhook number transfer`
        #[arg(long, value_name = "CODE")]
        transfer: Option<String>,
        /// Read the password from standard input's first line, if it is needed
        #[arg(long)]
        password_stdin: bool,
    },
    /// Have the certificates renewed that are due: those that have half of their time behind them
    Renew {
        /// Read the password from standard input's first line, if it is needed
        #[arg(long)]
        password_stdin: bool,
    },
    /// Give a number up; nobody gets it until all records of it have lapsed
    Release {
        /// The number
        number: String,
        /// Do not ask
        #[arg(long)]
        yes: bool,
        /// Read the password from standard input's first line, if it is needed
        #[arg(long)]
        password_stdin: bool,
    },
    /// Give a number to somebody else, who claims it within a week with the code that is printed
    #[command(after_help = "\
It cannot be taken back.

Examples:
  offhook number transfer ada bob               bob is a contact whose key is known
  offhook number transfer ada 4821 0937 5567")]
    Transfer {
        /// The number
        number: String,
        /// Whose it is to be: a contact or a number that you have met, or an identity key in hexadecimal digits
        #[arg(required = true, num_args = 1..)]
        to: Vec<String>,
        /// Do not ask
        #[arg(long)]
        yes: bool,
        /// Read the password from standard input's first line, if it is needed
        #[arg(long)]
        password_stdin: bool,
    },
}
