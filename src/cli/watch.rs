//! A run as it goes on: its events told, signals obeyed.

use std::future::IntoFuture as _;
use std::panic::AssertUnwindSafe;
use std::pin::pin;
use std::sync::Arc;
use std::time::{Duration, Instant};

use futures::future::{Either, select};
use futures::{FutureExt as _, Stream, StreamExt as _, stream};
use plandag::counted;
use plandag::journal::RunId;
use plandag::llm::PlannerWait;
use plandag::report::{ExitCode, StepOutcome};
use plandag::{
    Dag, Graft, JournalError, Plan, PlanError, Rejection, RunError, RunEvent, RunEventKind, RunHandle, RunReport, Step,
    Timestamp,
};
use serde_json::json;
use tokio::time;

use super::batch::Batch;
use super::console::{Console, LastWords, ReaderGone, json_line};
use super::duration::human;
use super::failure::Failure;
use super::history::journal_failure;
use super::ledger::Ledger;
use super::live::{FRAME, Live};
use super::ndjson::{Fields, Line};
use super::panic;
use super::patience::{self, Lines, Reader, Standard};
use super::prediction::Prediction;
use super::progress::{Beside, Progress, goes_on, wait_line};
use super::questions::{Answer, Questions};
use super::run;
use super::signals::{self, Signal};
use super::style::{self, paint};
use super::text;
use super::toolbox::Toolbox;

/// How long a reader may take over each piece of what is said last, if somebody wants the run to stop.
const LAST_PATIENCE: Duration = Duration::from_secs(1);

/// A run that has ended, and what is not in its report.
pub(crate) struct Watched {
    pub(crate) report: RunReport,
    pub(crate) stopped_by: Option<Signal>,
    /// The answers of the planner that were not usable, since the last one that was.
    pub(crate) rejections: Vec<Arc<Rejection>>,
    /// What the planner waited for when the run ended.
    pub(crate) waited: Option<String>,
    /// Lines for programs that are still to be given out.
    pub(crate) lines: Lines,
}

impl Watched {
    /// Whether the planner was asked for another plan and had none.
    pub(crate) fn declined(&self) -> bool {
        self.rejections.iter().any(|rejection| rejection.offences.contains(&PlanError::Declined))
    }
}

enum Happening {
    Event(RunEvent),
    Signal(Signal),
    /// The picture is due.
    Frame,
    Answer(Answer),
    /// The planner waits for something.
    Wait(PlannerWait),
    /// Standard output takes a piece.
    Taken,
    /// Standard error does.
    Heard,
    End,
}

/// What is to be known of a run to tell how it goes.
#[derive(Clone, Copy)]
pub(crate) struct Setting<'a> {
    pub(crate) toolbox: &'a Toolbox,
    pub(crate) console: &'a Console,
    /// Whether programs read what is told, and not people.
    pub(crate) json: bool,
    /// Whether other processes know the run by its journal.
    pub(crate) is_kept: bool,
    /// The lines that the run carries out, if it is a batch.
    pub(crate) batch: Option<&'a Batch>,
}

/// Starts a run, or goes on with one that has a `past`, and tells what happens until it ends.
pub(crate) async fn watch(
    start: impl FnOnce() -> RunHandle,
    past: &[RunEvent],
    setting: Setting<'_>,
) -> Result<Watched, Failure> {
    let Setting { console, json, .. } = setting;
    let signals = signals::listen().map_err(run::no_signals)?;
    let handle = start();
    let live = if json { None } else { Live::new(console) };
    let beside = match &live {
        Some(_) => Beside::Picture,
        None if console.is_interactive() => Beside::Person,
        None => Beside::Nothing,
    };
    let frames = live.as_ref().map(|_| frames().map(|()| Happening::Frame));
    let (questions, answers) = Questions::new();
    let mut watcher = Watcher {
        handle: &handle,
        setting,
        lines: Lines::default(),
        said: Lines::default(),
        is_read: true,
        next: 0,
        clock: (Timestamp::ZERO, Instant::now()),
        has_opened: false,
        pressed_twice: false,
        ledger: Ledger::default(),
        progress: Progress::new(beside),
        live,
        questions,
        stopped_by: None,
        rejections: Vec::new(),
    };
    watcher.remember(past);
    let mut events = handle.events().map(Happening::Event).chain(stream::iter([Happening::End]));
    let orders = stream::select(signals.map(Happening::Signal), answers.map(Happening::Answer));
    let orders = stream::select(orders, setting.toolbox.planner_waits().map(Happening::Wait));
    let mut others = stream::select(orders, stream::iter(frames).flatten()).chain(stream::pending());
    let (mut reader, mut listener) = (Reader::of(Standard::Output), Reader::of(Standard::Error));
    loop {
        let wants_events = watcher.has_room();
        let happens = async {
            match wants_events {
                true => stream::select(&mut others, &mut events).next().await,
                false => others.next().await,
            }
        };
        let is_given = async {
            let is_taken = reader.takes_a_piece_of(&watcher.lines).map(|()| Happening::Taken);
            let is_heard = listener.takes_a_piece_of(&watcher.said).map(|()| Happening::Heard);
            select(pin!(is_taken), pin!(is_heard)).await.factor_first().0
        };
        // What has happened by now is given out together. Whoever wants the run to stop is heard also while nobody reads.
        let happening = match select(pin!(happens), pin!(is_given)).await {
            Either::Left((happening, _)) => happening.unwrap_or(Happening::End),
            Either::Right((given, _)) => given,
        };
        match happening {
            Happening::Event(event) => watcher.event(&event),
            Happening::Signal(signal) => watcher.signal(signal),
            Happening::Frame => watcher.frame(),
            Happening::Answer(answer) => watcher.answer(answer),
            Happening::Wait(wait) => watcher.planner_waits(&wait),
            Happening::Taken => watcher.give_piece(),
            Happening::Heard => console.tell_piece(&mut watcher.said),
            Happening::End => break,
        }
    }
    if let Some(live) = &mut watcher.live {
        live.close();
    }
    let last_words = watcher.last_words();
    let waited = watcher.ledger.planner_waited(watcher.clock.0).map(|(_, why)| why.to_owned());
    let Watcher { mut lines, mut said, stopped_by, rejections, .. } = watcher;
    // If it panicked, what was told before is still given out.
    let ended = AssertUnwindSafe(handle.into_future()).catch_unwind().await;
    console.has_last_words(last_words);
    console.tell_rest(&mut said);
    match ended.unwrap_or(Err(RunError::Shutdown)) {
        Ok(report) => Ok(Watched { report, stopped_by, rejections, waited, lines }),
        Err(error) => {
            console.json_rest(&mut lines);
            Err(engine_failure(error))
        }
    }
}

struct Watcher<'a> {
    handle: &'a RunHandle,
    setting: Setting<'a>,
    /// Lines for programs that are not given out yet.
    lines: Lines,
    /// Lines for people that are not told yet.
    said: Lines,
    /// Whether somebody still reads the events.
    is_read: bool,
    /// The number of the next event.
    next: u64,
    /// The run's clock at an instant of ours.
    clock: (Timestamp, Instant),
    ledger: Ledger,
    questions: Questions,
    progress: Progress,
    /// The picture of what goes on, where there is a terminal for it.
    live: Option<Live<'a>>,
    stopped_by: Option<Signal>,
    /// Whether it was told what the run may do.
    has_opened: bool,
    pressed_twice: bool,
    rejections: Vec<Arc<Rejection>>,
}

impl Watcher<'_> {
    /// Takes up what happened before this process, and says where the run is.
    fn remember(&mut self, past: &[RunEvent]) {
        let Some(last) = past.last() else { return };
        for event in past {
            self.ledger.take(event);
            self.questions.learn(event);
            self.progress.learn(event, &self.ledger);
            if let Some(live) = &mut self.live {
                live.take(event);
            }
        }
        self.next = last.seq + 1;
        if !self.setting.json {
            self.tell(&goes_on(self.handle.id(), past));
        }
    }

    fn event(&mut self, event: &RunEvent) {
        let missed = event.seq.saturating_sub(self.next);
        self.next = event.seq + 1;
        self.clock = (event.at, Instant::now());
        self.ledger.take(event);
        if let Some(live) = &mut self.live {
            live.take(event);
        }
        match &event.kind {
            // Steps of a plan that a model writes start before it is complete.
            RunEventKind::RunStarted { .. } if self.setting.toolbox.has_models() => self.opening(),
            RunEventKind::PlanAccepted { revision, graft, .. } => {
                self.rejections.clear();
                if *revision == 1 {
                    self.head(graft);
                }
            }
            RunEventKind::PlanRejected { rejection, .. } => {
                self.rejections.push(Arc::clone(rejection));
            }
            _ => {}
        }
        if missed > 0 {
            self.missed(event, missed);
        }
        if self.setting.json {
            if let Some(line) = Line::event(self.handle.id(), event, &self.ledger) {
                self.json(&line);
            }
        } else if let Some(line) = self.progress.line(event, &self.ledger) {
            self.tell(&line);
            if let Some(way) = self.way_to_decide(event) {
                self.tell(&way);
            }
        }
        if let Some(question) = self.questions.take(event) {
            self.ask(&question);
        }
    }

    fn planner_waits(&mut self, wait: &PlannerWait) {
        let now = self.clock.0 + self.clock.1.elapsed();
        self.ledger.planner_begins_to_wait(now + wait.pause, &wait.why);
        let Some(line) = wait_line(wait.pause, &wait.why) else { return };
        if self.setting.json {
            let wait_ms = u64::try_from(wait.pause.as_millis()).unwrap_or(u64::MAX);
            let fields = Fields::from([("wait_ms", json!(wait_ms)), ("reason", json!(wait.why))]);
            self.json(&Line::new(self.handle.id(), now, "planning.waits", fields));
        } else {
            self.tell(&line);
        }
    }

    /// How to decide about a step while the rest goes on, where nobody is asked.
    fn way_to_decide(&self, event: &RunEvent) -> Option<String> {
        let (step, outcome) = match event.kind {
            RunEventKind::ApprovalRequested { step, .. } if !self.questions.can_ask() => {
                (step, StepOutcome::Unapproved)
            }
            RunEventKind::StepUnknown { step, .. } => (step, StepOutcome::Unknown),
            _ => return None,
        };
        if !self.setting.is_kept || self.ledger.running() == 0 {
            return None;
        }
        let way = way_to_decide(self.handle.id(), self.ledger.id(step), outcome)?;
        Some(format!("     {}", paint(style::FAINT, &text::line(&way))))
    }

    /// Tells a person something; where there is a picture, above it.
    fn tell(&mut self, line: &str) {
        match &mut self.live {
            Some(live) => live.say(line),
            None => {
                if let Some(line) = self.setting.console.said(line) {
                    self.speak(&line);
                }
            }
        }
    }

    /// Tells a person something as soon as they read. The run goes on meanwhile, and can be stopped.
    fn speak(&mut self, text: &str) {
        self.said.push(&self.setting.console.complaint(text));
        while !self.said.rest().is_empty() && Standard::Error.takes_a_piece() {
            self.setting.console.tell_piece(&mut self.said);
        }
    }

    /// Asks a person something, who may have wanted to hear of nothing else.
    fn ask(&mut self, question: &str) {
        match &mut self.live {
            Some(live) => live.say(question),
            None => self.complain(question),
        }
    }

    fn answer(&mut self, answer: Answer) {
        if let Some(next) = self.questions.answered(answer, self.handle) {
            self.ask(&next);
        }
    }

    fn frame(&mut self) {
        if let Some(live) = &mut self.live {
            live.draw(&self.ledger);
        }
    }

    fn json(&mut self, line: &Line) {
        if self.is_read {
            self.lines.push(&json_line(line));
        }
    }

    /// Whether more lines can be gathered. Of a run that is about to stop there are not many more, and its end must not
    /// be missed.
    fn has_room(&self) -> bool {
        let has_room = |lines: &Lines| lines.rest().len() < patience::PIECE;
        (has_room(&self.lines) && has_room(&self.said)) || self.stopped_by.is_some()
    }

    fn give_piece(&mut self) {
        if let Err(ReaderGone) = self.setting.console.json_piece(&mut self.lines) {
            // The system would end a program that writes on after `| head` has left.
            self.lines.clear();
            self.is_read = false;
            self.stopped_by = Some(Signal::Interrupt);
            self.handle.cancel_now();
        }
    }

    /// Gives out what is taken at once.
    fn give_at_once(&mut self) {
        while !self.lines.rest().is_empty() && Standard::Output.takes_a_piece() {
            self.give_piece();
        }
    }

    fn last_words(&self) -> LastWords {
        match self.stopped_by {
            None => LastWords::Patient,
            Some(signal) if self.pressed_twice => LastWords::Hurried(signal, Duration::ZERO),
            Some(signal) => LastWords::Hurried(signal, LAST_PATIENCE),
        }
    }

    /// The run does not wait for slow readers: what they were too late for is only in the report.
    fn missed(&mut self, event: &RunEvent, count: u64) {
        self.ledger.correct(&self.handle.view());
        if self.setting.json {
            let fields = Fields::from([("count", json!(count))]);
            self.json(&Line::new(self.handle.id(), event.at, "events.missed", fields));
        } else {
            self.tell(&format!(" ... {} came too fast to be shown", counted(count as usize, "event")));
        }
    }

    /// What a run may do, before it does anything.
    fn opening(&mut self) {
        self.has_opened = true;
        if !self.setting.json {
            let run = format!(" {}{}", paint(style::FAINT, "run       "), self.handle.id());
            self.tell(&format!("{run}\n{}\n", self.setting.toolbox.render()));
        }
    }

    /// What is about to run, before its first step or at the end of a plan that was streamed.
    fn head(&mut self, graft: &Graft) {
        let Some(start) = self.ledger.start() else { return };
        if self.setting.json {
            return;
        }
        let plan =
            Plan { pools: graft.pools.clone(), ..graft.added.iter().map(|added| Step::clone(&added.step)).collect() };
        let brief = match (self.setting.batch, Dag::of(&plan)) {
            (Some(batch), _) => batch.brief(start),
            (None, Ok(dag)) if graft.joined.is_empty() => Prediction::new(&plan, &dag, start).brief(),
            // Steps of a plan that was streamed came before, in grafts of their own.
            (None, _) => counted(graft.added.len() + graft.joined.len(), "step"),
        };
        match self.has_opened {
            true => self.tell(&format!(" {}{brief}", paint(style::FAINT, "plan      "))),
            false => {
                let run = format!(" {}{}  {brief}", paint(style::FAINT, "run       "), self.handle.id());
                self.tell(&format!("{run}\n{}\n", self.setting.toolbox.render()));
            }
        }
    }

    fn signal(&mut self, signal: Signal) {
        // The first one says why the run is stopped.
        match self.stopped_by.replace(self.stopped_by.unwrap_or(signal)) {
            _ if signal == Signal::Quit => self.stop_now(),
            None => {
                self.handle.cancel();
                let grace =
                    self.ledger.start().map_or(Duration::ZERO, |start| Duration::from_millis(start.policy.grace_ms));
                let running = match self.ledger.running() {
                    0 => "stopping".to_owned(),
                    running => format!(
                        "giving {} {} to finish; press again to stop now",
                        counted(running, "step"),
                        human(grace)
                    ),
                };
                self.warn(&running);
            }
            Some(_) if !self.pressed_twice => self.stop_now(),
            Some(first) => self.leave(first),
        }
    }

    /// However often it is asked for.
    fn stop_now(&mut self) {
        if !std::mem::replace(&mut self.pressed_twice, true) {
            self.handle.cancel_now();
            self.warn("stopping now");
        }
    }

    /// Ends the process, and with it what cannot be ended: a tool in the middle of a system call, a journal that another
    /// process keeps locked.
    fn leave(&mut self, signal: Signal) -> ! {
        let mut failure =
            Failure::new("run.cancelled", signal.exit(), "the run was left before it had ended").after_start();
        if self.setting.is_kept && self.next > 0 {
            failure = failure.help(go_on(self.handle.id()));
        }
        if self.setting.json {
            self.json(&Line::error(failure.fields()));
            self.give_at_once();
        } else if Standard::Error.takes_a_piece() {
            if let Some(live) = &mut self.live {
                live.close();
            }
            self.speak(&failure.render());
        }
        std::process::exit(signal.exit().code().into());
    }

    fn warn(&mut self, text: &str) {
        let line = format!(" {} {text}", paint(style::RETRY, "■"));
        match &mut self.live {
            // Who pressed Ctrl-C is answered at once.
            Some(live) => {
                live.say(&line);
                live.draw(&self.ledger);
            }
            None => self.complain(&line),
        }
    }

    /// Tells a person something they must know, after the lines that led to it. Lines for programs and this may go into
    /// the same pipe.
    fn complain(&mut self, text: &str) {
        self.give_at_once();
        // Whoever reads the lines may read nothing else before their end.
        if !self.setting.json || Standard::Error.takes_a_piece() {
            self.speak(text);
        }
    }
}

/// How a run that was stopped is taken up again.
pub(crate) fn go_on(run: &RunId) -> String {
    format!("go on with it: plandag resume {run}")
}

/// How a person decides about a step that waits for that.
pub(crate) fn way_to_decide(run: &RunId, step: &str, outcome: StepOutcome) -> Option<String> {
    match outcome {
        StepOutcome::Unknown => {
            Some(format!("say what became of it: plandag resolve {run} {step} --succeeded JSON, --failed or --retry"))
        }
        StepOutcome::Unapproved => Some(format!("let it act: plandag approve {run} {step}")),
        _ => None,
    }
}

/// When a picture is due. The first one waits: a run that is over by then needs none.
fn frames() -> impl Stream<Item = ()> + Unpin {
    let mut interval = time::interval_at(time::Instant::now() + FRAME, FRAME);
    interval.set_missed_tick_behavior(time::MissedTickBehavior::Delay);
    stream::poll_fn(move |cx| interval.poll_tick(cx).map(|_| Some(())))
}

/// The engine could not go on.
fn engine_failure(error: RunError) -> Failure {
    let message = error.to_string();
    let failure = match error {
        // Whoever is locked out has not begun.
        RunError::Journal(error @ JournalError::Locked { .. }) => return journal_failure(error),
        RunError::Journal(error) => journal_failure(error),
        RunError::Changed { run, differences } => {
            let message = format!("the tools are not those that run {run} was started with");
            let failure = Failure::new("journal.changed", ExitCode::Journal, message);
            return differences
                .into_iter()
                .fold(failure, Failure::note)
                .help("go on all the same, with what the run has recorded: --accept-changes");
        }
        // Nothing was begun.
        RunError::Configuration(_) => return Failure::new("config.run", ExitCode::Configuration, message),
        _ => Failure::new("internal.panic", ExitCode::Internal, panic::last().unwrap_or(message))
            .help(format!("this is a bug in plandag: {}", panic::how_to_report())),
    };
    failure.after_start()
}

#[cfg(test)]
mod tests {
    use clap::Parser as _;
    use futures::future::BoxFuture;
    use plandag::journal::{Claim, Durability, Journal, RunSummary};
    use plandag::{Runner, StoredOutput};
    use serde_json::Value;

    use super::super::args::{Cli, Command};
    use super::*;

    /// A journal with a bug.
    struct Broken;

    type Answer<'a, T> = BoxFuture<'a, Result<T, JournalError>>;

    impl Journal for Broken {
        fn create<'a>(&'a self, _: &'a RunId) -> Answer<'a, Claim> {
            panic!("boom")
        }

        fn claim<'a>(&'a self, _: &'a RunId) -> Answer<'a, Claim> {
            unreachable!()
        }

        fn append<'a>(&'a self, _: &'a Claim, _: &'a [RunEvent], _: Durability) -> Answer<'a, ()> {
            unreachable!()
        }

        fn history<'a>(&'a self, _: &'a RunId) -> Answer<'a, Vec<RunEvent>> {
            unreachable!()
        }

        fn put_output<'a>(&'a self, _: &'a Claim, _: Arc<Value>) -> Answer<'a, StoredOutput> {
            unreachable!()
        }

        fn get_output<'a>(&'a self, _: &'a RunId, _: &'a StoredOutput) -> Answer<'a, Arc<Value>> {
            unreachable!()
        }

        fn runs<'a>(&'a self) -> Answer<'a, Vec<RunSummary>> {
            unreachable!()
        }
    }

    /// It ends as any other error of the engine does, after which the lines are given out.
    #[tokio::test]
    async fn a_run_that_panics_is_an_error() {
        let Command::Run(args) = Cli::parse_from(["plandag", "run", "x"]).command else { unreachable!() };
        let toolbox = Toolbox::open(&args.settings, &Console::default()).unwrap();
        let runner = Runner::new(Plan::default()).journal(Arc::new(Broken));
        let setting =
            Setting { toolbox: &toolbox, console: &Console::default(), json: true, is_kept: true, batch: None };
        let failure = watch(|| runner.start("x"), &[], setting).await.err().unwrap();
        assert_eq!((failure.exit(), &json!(failure.fields())["code"]), (ExitCode::Internal, &json!("internal.panic")));
        assert!(
            failure.render().contains(&format!("plandag {} on", env!("CARGO_PKG_VERSION"))),
            "{}",
            failure.render()
        );
    }
}
