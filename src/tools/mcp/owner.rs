//! Whose a server is, written into its environment: the next process can tell then whether it has been left behind.

use std::fs;

use crate::tools::orphans;

/// The variable with the process that started a server, and when that had begun.
const OWNER: &str = "PLANDAG_OWNER";

/// The variable and its value for a server of this process; none where processes cannot be told apart.
pub(super) fn variable() -> Option<(&'static str, String)> {
    let pid = std::process::id();
    Some((OWNER, format!("{pid}.{}", begun(pid)?)))
}

/// Ends servers whose process is gone. They would end by themselves, but only after a while, and a call may go on in
/// them that is about to be repeated.
pub(super) async fn end_orphans() {
    let value = |variable: &[u8]| {
        let variable = std::str::from_utf8(variable).ok()?;
        variable.strip_prefix(OWNER)?.strip_prefix('=').map(str::to_owned)
    };
    orphans::end(|variable| value(variable).is_some_and(|owner| !lives(&owner))).await;
}

/// Whether a process is still there, and not another one that has got its number.
fn lives(owner: &str) -> bool {
    let owner = owner.split_once('.').and_then(|(pid, begun)| Some((pid.parse().ok()?, begun)));
    // What cannot be read is not ours to end.
    owner.is_none_or(|(pid, begun_then)| begun(pid).is_some_and(|begun| begun == begun_then))
}

/// When a process began, in the ticks of the system; none if it is not there, or is only a number that nobody has asked
/// for yet.
fn begun(pid: u32) -> Option<String> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    // The second field is the program's name, which may have anything in it.
    let mut fields = stat.rsplit_once(')')?.1.split_ascii_whitespace();
    let is_dead = fields.next().is_none_or(|state| matches!(state, "Z" | "X"));
    fields.nth(18).filter(|_| !is_dead).map(str::to_owned)
}

#[cfg(all(test, target_os = "linux"))]
mod tests {
    use super::*;

    #[test]
    fn a_process_is_told_from_a_later_one_of_its_number() {
        let (_, owner) = variable().unwrap();
        assert!(lives(&owner));
        assert!(!lives(&format!("{}.1", std::process::id())), "somebody else had this number before");
        assert!(!lives("4194305.17"), "no process has such a number");
        assert!(lives("nonsense"));
    }
}
