//! The command on a terminal: a real one as far as the command can tell, with an emulator that says what is to be seen.

use std::fs::{File, OpenOptions};
use std::io::{Read as _, Write as _};
use std::path::Path;
use std::process::{Child, Command};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use rusqlite::Connection;
use rustix::pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt};
use rustix::termios::{Winsize, tcsetwinsize};
use serde_json::json;

use crate::approving;
use crate::support::{PATIENCE, Place, in_time, sleep};

/// A terminal with a command on it.
struct Terminal {
    keyboard: File,
    child: Child,
    screen: Arc<Mutex<Screen>>,
}

struct Screen {
    emulator: vt100::Parser,
    /// Everything that was written.
    written: Vec<u8>,
    /// Whether nothing more will be.
    is_closed: bool,
}

impl Terminal {
    fn start(mut command: Command, columns: u16, rows: u16) -> Self {
        let keyboard = openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY).unwrap();
        grantpt(&keyboard).unwrap();
        unlockpt(&keyboard).unwrap();
        let name = ptsname(&keyboard, Vec::new()).unwrap().into_string().unwrap();
        let line = OpenOptions::new().read(true).write(true).open(Path::new(&name)).unwrap();
        let keyboard = File::from(keyboard);
        set_size(&keyboard, columns, rows);
        command.stdin(line.try_clone().unwrap()).stdout(line.try_clone().unwrap()).stderr(line);
        let child = command.spawn().unwrap();
        // The command's own ends of the line are the last ones.
        drop(command);

        let emulator = vt100::Parser::new(rows.max(1).try_into().unwrap(), columns.max(1).try_into().unwrap(), 1_000);
        let screen = Arc::new(Mutex::new(Screen { emulator, written: Vec::new(), is_closed: false }));
        let (mut output, shared) = (keyboard.try_clone().unwrap(), Arc::clone(&screen));
        std::thread::spawn(move || {
            let mut buffer = [0; 65_536];
            // A line that is closed at the other end is an error here.
            while let Ok(count @ 1..) = output.read(&mut buffer) {
                let mut screen = shared.lock().unwrap();
                screen.emulator.process(&buffer[..count]);
                screen.written.extend(&buffer[..count]);
            }
            shared.lock().unwrap().is_closed = true;
        });
        Self { keyboard, child, screen }
    }

    fn resize(&self, columns: u16, rows: u16) {
        // The emulator first: what is written for the new size must not meet the old one.
        self.screen
            .lock()
            .unwrap()
            .emulator
            .screen_mut()
            .set_size(rows.try_into().unwrap(), columns.try_into().unwrap());
        set_size(&self.keyboard, columns, rows);
    }

    fn press(&mut self, keys: &str) {
        self.keyboard.write_all(keys.as_bytes()).unwrap();
    }

    fn interrupt(&self) {
        let status = Command::new("kill").arg("-INT").arg(self.child.id().to_string()).status().unwrap();
        assert!(status.success());
    }

    /// What is to be seen.
    fn text(&self) -> String {
        self.screen.lock().unwrap().emulator.screen().contents()
    }

    /// Waits until this is to be seen.
    fn wait_for(&self, what: &str) -> String {
        let begin = Instant::now();
        loop {
            let text = self.text();
            if text.contains(what) {
                return text;
            }
            assert!(begin.elapsed() < PATIENCE, "`{what}` never came up:\n{text}");
            std::thread::sleep(Duration::from_millis(5));
        }
    }

    /// Whether this is to be seen before the command ends.
    fn shows(&self, what: &str) -> bool {
        loop {
            let is_closed = self.screen.lock().unwrap().is_closed;
            if is_closed || self.text().contains(what) {
                return self.text().contains(what);
            }
            std::thread::sleep(Duration::from_millis(5));
        }
    }

    /// Waits for the end: the exit code, what is to be seen then, and all that was ever written.
    fn finish(mut self) -> (i32, String, String) {
        let exit = self.child.wait().unwrap().code().unwrap_or(-1);
        let begin = Instant::now();
        while !self.screen.lock().unwrap().is_closed && begin.elapsed() < PATIENCE {
            std::thread::sleep(Duration::from_millis(5));
        }
        let written = String::from_utf8(self.screen.lock().unwrap().written.clone()).unwrap();
        (exit, self.text(), written)
    }
}

fn set_size(terminal: &File, columns: u16, rows: u16) {
    let size = Winsize { ws_row: rows, ws_col: columns, ws_xpixel: 0, ws_ypixel: 0 };
    tcsetwinsize(terminal, size).unwrap();
}

/// Three steps that wait for half a second and more, and one that waits for them.
fn place() -> Place {
    let place = Place::new();
    place.plan(json!([
        sleep("a", 500, &[]),
        sleep("b", 900, &[]),
        sleep("c", 1_300, &[]),
        sleep("join", 300, &["a", "b", "c"])
    ]));
    place
}

#[test]
fn what_goes_on_stands_below_what_is_done() {
    let place = place();
    let begin = Instant::now();
    let terminal = Terminal::start(place.command(["run", "plan.json"]), 80, 24);
    terminal.wait_for("3 running");
    let text = terminal.wait_for("1/4 done");
    let (done, running) = (text.find("✓ a").unwrap(), text.find(" b ").unwrap());
    assert!(done < text.find('─').unwrap() && text.find('─').unwrap() < running, "{text}");
    assert!(text.contains("waits for 2 of 3"), "{text}");
    terminal.wait_for("ETA");

    let (exit, text, written) = terminal.finish();
    let frames = written.matches("\u{1b}[J").count() as u128;
    assert!(frames <= begin.elapsed().as_millis() / 100 + 2, "{frames} pictures in {:?}", begin.elapsed());
    assert_eq!(exit, 0, "{text}");
    // The picture is gone, the finished lines are there, and the screen was never another one.
    assert!(!text.contains("running") && !text.contains('─') && !text.contains("started"), "{text}");
    assert!(["✓ a", "✓ b", "✓ c", "✓ join", "succeeded", "may not"].iter().all(|said| text.contains(said)), "{text}");
    assert!(!written.contains("\u{1b}[?1049") && !written.contains("\u{1b}[?47"));
}

#[test]
fn a_low_terminal_shows_how_many_more_there_are() {
    let place = Place::new();
    place.plan((0..20).map(|n| sleep(&format!("s{n}"), 700, &[])).collect());
    let terminal = Terminal::start(place.command(["run", "plan.json"]), 40, 10);
    let text = terminal.wait_for("more");
    assert!(text.contains("+17 more") && text.contains("0/20 done"), "{text}");
    assert_eq!(terminal.finish().0, 0);
}

#[test]
fn a_narrow_terminal_breaks_no_words() {
    let place = Place::new();
    place.plan((0..9).map(|n| sleep(&format!("search-number-{n}"), 200, &[])).collect());
    let (exit, text, _) = Terminal::start(place.command(["run", "plan.json", "--max-parallel", "4"]), 40, 120).finish();
    assert_eq!(exit, 0, "{text}");
    for whole in ["up to 4", "calculate,", "slept_ms 200", "✓ search-number-8", "networks,"] {
        assert!(text.contains(whole), "{whole}: {text}");
    }
}

#[test]
fn a_terminal_that_changes_its_size_has_no_pieces_left() {
    let place = place();
    let terminal = Terminal::start(place.command(["run", "plan.json"]), 120, 40);
    terminal.wait_for("3 running");
    terminal.resize(60, 30);
    terminal.wait_for("2/4 done");
    terminal.resize(100, 24);
    let (exit, text, _) = terminal.finish();
    assert_eq!(exit, 0);
    assert!(!text.contains('─') && !text.contains("running"), "{text}");
    assert!(["✓ a", "✓ b", "✓ c", "✓ join"].iter().all(|line| text.matches(line).count() == 1), "{text}");
}

#[test]
fn plain_terminals_get_plain_lines() {
    let place = place();
    let run = |arguments: &[&str], name: &str, value: &str| {
        let mut command = place.command([&["run", "plan.json"], arguments].concat());
        // A job of continuous integration changes nothing about what a terminal can show.
        command.env("CI", "true").env(name, value);
        Terminal::start(command, 80, 24).finish()
    };
    // A terminal without a cursor: lines only, no control sequence at all.
    let (exit, text, written) = run(&[], "TERM", "dumb");
    assert_eq!(exit, 0, "{text}");
    assert!(!written.contains('\u{1b}') && text.contains("▸ a"), "{written:?}");
    // No colours, on one that has a cursor.
    let (_, text, written) = run(&[], "NO_COLOR", "1");
    assert!(written.contains("\u{1b}[J") && text.contains("✓ join"), "{text}");
    assert!(!colours(&written), "{written:?}");
    let (_, _, written) = run(&["--color", "never"], "CLICOLOR_FORCE", "1");
    assert!(!colours(&written), "{written:?}");
    // The flag is closer than the environment.
    let (_, _, written) = run(&["--color", "always"], "NO_COLOR", "1");
    assert!(colours(&written), "{written:?}");
    let (_, text, written) = run(&["--ascii"], "LANG", "C");
    assert!(written.is_ascii() && text.contains("v join"), "{text}");
    // A terminal that does not know how large it is.
    let mut command = place.command(["run", "plan.json"]);
    command.env("TERM", "xterm");
    let (exit, _, written) = Terminal::start(command, 0, 0).finish();
    assert!(exit == 0 && written.contains("started") && !written.contains("\u{1b}[J"), "{written:?}");
    // Logs and pictures do not go together.
    let (_, _, written) = run(&["-v"], "LANG", "C");
    assert!(!written.contains("\u{1b}[J"), "{written:?}");
}

/// What terminals have been attacked with: each is shown, and none arrives.
#[test]
fn no_control_sequence_of_a_document_reaches_a_terminal() {
    let introduced =
        ["[2J", "[H", "[31m", "[6n", "[5i", "[?1049h", "[?1000h", "[?2004l", "[8;1;1t", "[21t", "[>c", "[20h"];
    let strings = [
        "]0;title",
        "]52;c;aGk=",
        "]8;;http://a.test",
        "]4;1;?",
        "]1337;File=:AA",
        "]777;notify;a;b",
        "P$q",
        "_G",
        "^x",
        "Xs",
    ];
    let single = ["c", "7", "8", "D", "E", "M", "Z", "=", ">", "#8", "(0", "%G", "n", "|"];
    let mut sequences: Vec<String> =
        introduced.iter().flat_map(|tail| [format!("\u{1b}{tail}"), format!("\u{9b}{}", &tail[1..])]).collect();
    sequences.extend(strings.iter().map(|tail| format!("\u{1b}{tail}\u{7}")));
    sequences.extend(single.iter().map(|tail| format!("\u{1b}{tail}")));
    sequences.extend(
        [
            "\u{7}", "\u{8}", "\u{b}", "\u{c}", "\r", "\u{e}", "\u{f}", "\u{7f}", "\u{85}", "\u{90}", "\u{9d}",
            "\u{202e}", "\u{2066}", "\u{feff}",
        ]
        .map(str::to_owned),
    );
    assert!(sequences.len() >= 60, "{}", sequences.len());
    let place = Place::new();
    let steps = sequences.iter().enumerate().map(|(index, sequence)| {
        place.file(&format!("docs/{index}.txt"), format!("a{sequence}b"));
        json!({ "id": format!("s{index}"), "tool": "read_file", "args": { "path": format!("{index}.txt") } })
    });
    place.plan(steps.collect());
    let terminal = Terminal::start(place.command(["run", "plan.json", "--files", "docs"]), 120, 40);
    let (exit, text, written) = terminal.finish();
    assert_eq!(exit, 0, "{text}");
    // Ours are colours, and what moves the cursor to draw anew.
    let mut rest = written.as_str();
    while let Some(at) = rest.find('\u{1b}') {
        rest = &rest[at + 1..];
        let parameters = rest.strip_prefix('[').unwrap_or_else(|| panic!("{rest:.20?}"));
        let end = parameters.find(|c: char| !c.is_ascii_digit() && c != ';').unwrap_or(0);
        assert!(["m", "A", "J"].contains(&&parameters[end..=end]), "{:?}", &rest[..10.min(rest.len())]);
    }
    let others = |c: char| c.is_control() && !"\u{1b}\r\n".contains(c) || "\u{202e}\u{2066}\u{feff}".contains(c);
    assert!(!written.contains(others), "{written:?}");
    // The line itself puts a return before each line feed.
    let returns = written.split('\n').map(|line| line.trim_end_matches('\r').replace("\r\u{1b}[", ""));
    assert!(returns.into_iter().all(|line| !line.contains('\r')), "{written:?}");
}

fn colours(written: &str) -> bool {
    written.split("\u{1b}[").skip(1).any(|rest| {
        let end = rest.find(|c: char| !c.is_ascii_digit() && c != ';');
        end.is_some_and(|end| rest[end..].starts_with('m'))
    })
}

#[test]
fn a_question_is_asked_where_there_is_somebody_to_ask() {
    let place = Place::new();
    place.plan(json!([sleep("a", 1, &[])]));
    for (answer, exit, said) in [("y\n", 0, "✓ a"), ("yes\n", 0, "✓ a"), ("n\n", 130, "you said no"), ("\n", 130, "no")]
    {
        let mut terminal = Terminal::start(place.command(["run", "plan.json", "--confirm"]), 80, 24);
        let text = terminal.wait_for("Run it? [y/N]");
        assert!(text.contains("may not") && text.contains("predicted"), "{text}");
        terminal.press(answer);
        let (code, text, _) = terminal.finish();
        assert_eq!(code, exit, "{answer:?}: {text}");
        assert!(text.contains(said), "{answer:?}: {text}");
    }
}

/// Two steps that would act on text from outside: whoever sits at the terminal is asked about one after the other, and may
/// be relieved of it.
#[test]
fn a_question_is_taken_back_that_was_answered_elsewhere() {
    let place = approving::place();
    let reply = |id: &str| json!({ "id": id, "tool": "post.send", "args": { "text": "${letter}" } });
    place
        .plan(json!([{ "id": "letter", "tool": "post.read" }, reply("one"), reply("two"), sleep("then", 1, &["two"])]));
    let mut terminal = Terminal::start(place.command(["run", "plan.json", "--mcp", "mcp.json"]), 80, 24);
    let text = terminal.wait_for("May it? [y/N]");
    assert!(text.contains("text from outside has reached it (from letter)"), "{text}");
    assert!(text.contains("a letter from a stranger"), "what it would act on is shown: {text}");
    let (asked, other) = if text.contains("one would act") { ("one", "two") } else { ("two", "one") };
    let run = place.run(["runs", "--json"]).last_event()["run"].as_str().unwrap().to_owned();
    let approved = place.run(["approve", &run, asked]);
    assert_eq!(approved.exit, 0, "{approved:?}");
    terminal.wait_for(&format!("about {asked} any more; press Enter"));
    // What was about to be typed is no answer to what comes next.
    terminal.press("n\n");
    terminal.wait_for(&format!("{other} would act"));
    terminal.press("y\n");
    let (exit, text, _) = terminal.finish();
    assert_eq!((exit, approving::sent(&place)), (0, 2), "{text}");
}

/// Programs and people look at the same terminal: what a question is about comes before it.
#[test]
fn a_question_comes_after_the_lines_that_lead_to_it() {
    let place = approving::place();
    let command = place.command(["run", "plan.json", "--mcp", "mcp.json", "--json"]);
    let mut terminal = Terminal::start(command, 1_000, 24);
    let text = terminal.wait_for("May it? [y/N]");
    let line = text.find(r#""ev":"step.unapproved""#).unwrap_or(usize::MAX);
    assert!(line < text.find("reply would act").unwrap(), "{text}");
    terminal.press("y\n");
    let (exit, text, _) = terminal.finish();
    assert_eq!((exit, approving::sent(&place)), (0, 1), "{text}");
}

#[test]
fn whoever_leaves_what_does_not_end_finds_no_picture_and_a_way_on() {
    let (exit, text) = in_time(|| {
        let place = Place::new();
        place.plan(json!([sleep("long", 600_000, &[])]));
        let terminal = Terminal::start(place.command(["run", "plan.json"]), 80, 24);
        terminal.wait_for("1 running");
        let journal = Connection::open(place.path().join(".state/plandag/runs.db")).unwrap();
        journal.execute_batch("BEGIN IMMEDIATE").unwrap();
        for answer in ["press again to stop now", "stopping now"] {
            terminal.interrupt();
            // It ends by itself, after five seconds.
            if !terminal.shows(answer) {
                break;
            }
        }
        terminal.interrupt();
        let (exit, text, _) = terminal.finish();
        (exit != 7).then_some((exit, text))
    });
    assert_eq!(exit, 130, "{text}");
    assert!(text.contains("go on with it: plandag resume") && !text.contains("1 running"), "{text}");
}
