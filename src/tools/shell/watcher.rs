//! Ends the programs of this process when it is killed, and can no longer end them itself.
//!
//! A shell is told the groups of programs that begin and end, over a pipe whose other end only this process has. However
//! the process ends, the pipe is closed then, and the shell ends the groups that are left, and itself. It begins with the
//! first program. Where it cannot be started, programs of a killed process go on until the run does.

use std::io::{self, PipeWriter, Write as _};
use std::process::Stdio;
use std::sync::{Mutex, PoisonError};

use rustix::process::Pid;
use tokio::process::Command;

/// It needs nothing but what is part of any shell.
const SCRIPT: &str = r#"
trap '' HUP INT QUIT TERM
while read -r sign group; do
    if [ "$sign" = + ]; then
        groups="$groups $group"
    else
        left=
        for one in $groups; do [ "$one" = "$group" ] || left="$left $one"; done
        groups=$left
    fi
done
for one in $groups; do kill -s KILL -- "-$one"; done
"#;

static WATCHER: Mutex<Option<PipeWriter>> = Mutex::new(None);

/// A group has begun.
pub(super) fn begun(group: Pid) {
    tell('+', group);
}

/// A group was killed. To be said before its leader is waited for: its number may be that of another one after that.
pub(super) fn ended(group: Pid) {
    tell('-', group);
}

fn tell(sign: char, group: Pid) {
    let mut watcher = WATCHER.lock().unwrap_or_else(PoisonError::into_inner);
    if watcher.is_none() {
        *watcher = start().ok();
    }
    // It is one write, so that half of a line is never acted on.
    let line = format!("{sign} {}\n", group.as_raw_nonzero());
    // One that somebody has killed is replaced when there is something to tell again.
    *watcher = watcher.take().and_then(|mut watcher| watcher.write_all(line.as_bytes()).ok().map(|()| watcher));
}

/// It is in a group of its own, so that what ends this process by the whole group does not end it, and holds on to
/// nothing of ours.
fn start() -> io::Result<PipeWriter> {
    let (orders, watcher) = io::pipe()?;
    let mut command = Command::new("/bin/sh");
    command.args(["-c", SCRIPT, "plandag-watcher"]).env_clear().current_dir("/").process_group(0);
    command.stdin(orders).stdout(Stdio::null()).stderr(Stdio::null()).spawn()?;
    Ok(watcher)
}
