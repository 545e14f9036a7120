//! How many files this process may have open: a connection is one.

/// What is left for everything else: the journal, the programs that are started.
const OTHERS: u64 = 256;

/// Most connections that are of use.
const MOST: u64 = 4096;

/// How many connections can be open at once. What the system allows by default is meant for programs that serve nobody,
/// so as much of what it allows at most is taken as is of use.
#[cfg(unix)]
pub(super) fn max_connections() -> usize {
    use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

    let Rlimit { current, maximum } = getrlimit(Resource::Nofile);
    let wanted = (MOST + OTHERS).min(maximum.unwrap_or(u64::MAX));
    let allowed = match current {
        Some(current) if current < wanted => {
            let raised = setrlimit(Resource::Nofile, Rlimit { current: Some(wanted), maximum });
            if raised.is_ok() { wanted } else { current }
        }
        _ => wanted,
    };
    usize::try_from(allowed.saturating_sub(OTHERS).max(1)).unwrap_or(usize::MAX)
}

/// How many connections can be open at once.
#[cfg(not(unix))]
pub(super) fn max_connections() -> usize {
    MOST as usize
}
