//! Command-line flags with the forms that the Go suite takes.
//!
//! A program declares its flags as an ordinary clap struct and flattens the shared groups into it. [`parse`] then adds
//! Go's manners, without anything special at the fields:
//! - `-flag` is `--flag`, and `_` in a name is `-`;
//! - a `bool` field is `--flag`, `--flag=false`, also with `t`, `f`, `1`, `0`; it never takes the next word;
//! - whole numbers may be written `0x10` or `1_000`;
//! - the last one wins, except that every `--feature-gates` counts;
//! - [`GoDuration`] reads and prints `1m0s`;
//! - klog's flags are taken: `-v` sets the log level, the rest have no effect here and are named in one warning;
//! - words that are no flags are ignored with a warning, as Go ignores them.

mod argv;
mod duration;
mod gates;
mod groups;
mod values;

pub use argv::{Parsed, command, parse};
pub use duration::{GoDuration, ParseDurationError};
pub use gates::{FeatureGates, ParseGatesError};
pub use groups::{
    CommonFlags, Flags, KlogFlags, KubeFlags, LeaderElectFlags, LogFlags, LogFormat, Scope, ScopeFlags,
    Verbosity,
};
pub use values::{
    CommaList, ListenAddress, parse_bool, parse_float, parse_int, parse_non_negative, parse_positive_duration,
};
