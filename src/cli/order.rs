//! Which of several ready steps starts first, as an argument.

use clap::ValueEnum;

/// The order of ready steps, where there is no room for all.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Order {
    /// The longest remaining path first, by what its steps are expected to take
    CriticalPath,
    /// The one with the most steps after it, one after the other
    Hops,
    /// The one that became ready first
    Fifo,
    /// A random one
    Random,
}

impl Order {
    /// The order as a policy has it. Only a random one is drawn.
    pub(crate) fn with_seed(self, seed: u64) -> plandag::Order {
        match self {
            Self::CriticalPath => plandag::Order::CriticalPath,
            Self::Hops => plandag::Order::Hops,
            Self::Fifo => plandag::Order::Fifo,
            Self::Random => plandag::Order::Random(seed),
        }
    }
}
