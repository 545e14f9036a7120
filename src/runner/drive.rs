//! The driver, which makes the turns of a run: tells the scheduler what happened, then writes down, tells and does what
//! it says. And the keeper, which sees a run from its beginning to its end.

use std::future::poll_fn;
use std::panic::resume_unwind;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use futures::future::{Either, select};
use tokio::task::JoinHandle;
use tokio::time::{Instant, Sleep, sleep};
use tracing::Instrument as _;

use crate::error::RunError;
use crate::event::{AttemptNumber, Command, Event, Launch, RequestPlan, RunEvent, RunEventKind, Timestamp, Transition};
use crate::history;
use crate::journal::{Durability, Letter};
use crate::planner::Planner;
use crate::report::{Record, RunReport};
use crate::scheduler::{Phase, Scheduler};
use crate::tool::Effect;

use super::attempt::{Job, RunContext};
use super::desk::{After, By, Desk, Keep, Message};
use super::kept::{Hold, Kept};
use super::letters::Listener;
use super::live::Publisher;
use super::{hand, output, planning};

/// All state of a run that a process drives. One task at a time has it.
pub(super) struct Driver {
    scheduler: Scheduler,
    record: Record,
    planner: Arc<dyn Planner>,
    publisher: Option<Publisher>,
    clock: Clock,
    planning: Option<JoinHandle<()>>,
    /// There while a step waits for a person.
    listener: Option<Listener>,
    /// Launches that are not answered yet.
    running: usize,
    gathering: output::Gathering,
    /// Why the run cannot go on.
    failed: Option<RunError>,
    /// When the last turn began, unless it wrote something down: what has happened is to be kept at once.
    turned: Option<Instant>,
    /// What the next turn is about.
    messages: Vec<Message>,
    transition: Transition,
    /// What the last turn wants others to do.
    pub(super) orders: Orders,
}

/// What a turn wants others to do.
#[derive(Default)]
pub(super) struct Orders {
    pub(super) jobs: Vec<Job>,
    pub(super) aborts: Vec<AttemptNumber>,
    pub(super) wake_at: Option<Timestamp>,
}

/// Makes turns until there is nothing more to say. Gives a call for the hand that made them, and whether another task
/// was woken.
pub(super) async fn turns(
    run: &Arc<RunContext>,
    mut driver: Box<Driver>,
    by: By,
    mut at: Instant,
) -> (Option<Job>, bool) {
    let mut has_woken = false;
    loop {
        driver.turn(run, at).await;
        let (after, help) = run.desk.end_turn(driver, by);
        has_woken |= hand::summon(run, help);
        match after {
            After::Turn(again) => (driver, at) = (again, Instant::now()),
            After::Call(job) => return (Some(job), has_woken),
            After::Nothing => return (None, has_woken),
        }
    }
}

/// How often the keeper looks whether hands are stuck.
const WATCH: Duration = Duration::from_millis(5);

/// Drives a run until it is finished or stopped. When it is over, another may take it up.
pub(super) async fn keep(
    run: Arc<RunContext>,
    driver: Driver,
    first: Event,
    hold: Option<Hold>,
) -> Result<RunReport, RunError> {
    // Nothing that was started may outlive the run, whichever way it ends.
    let closing = Closing(&run.desk);
    let mut timer = Timer::new(driver.clock);
    run.desk.place(driver, first);
    let mut driver = loop {
        match poll_fn(|cx| timer.poll_keep(&run, cx)).await {
            Keep::Turn(driver) => {
                turns(&run, driver, By::Keeper, Instant::now()).await;
            }
            Keep::Over(driver) => break driver,
            Keep::Panic(panic) => resume_unwind(panic),
        }
    };
    drop(closing);
    driver.wind_down(&run, hold).await;
    let Driver { scheduler, record, failed, .. } = *driver;
    if let Some(error) = failed {
        return Err(error);
    }
    let mut report = RunReport::new(run.id.clone(), scheduler, record);
    if let Some(kept) = &run.journal {
        report.fetch_answer(&*kept.journal).await?;
    }
    Ok(report)
}

/// Ends everything at a desk when it is dropped.
struct Closing<'a>(&'a Desk);

impl Drop for Closing<'_> {
    fn drop(&mut self) {
        self.0.close();
    }
}

/// Sends [`Event::Woke`] when the scheduler wants it, and looks after the hands.
struct Timer {
    clock: Clock,
    watch: Option<Pin<Box<Sleep>>>,
    wake_at: Option<Timestamp>,
    /// Set for `set_for`.
    sleep: Option<Pin<Box<Sleep>>>,
    set_for: Option<Timestamp>,
}

impl Timer {
    fn new(clock: Clock) -> Self {
        Self { clock, watch: None, wake_at: None, sleep: None, set_for: None }
    }

    /// What the keeper of a run does next.
    fn poll_keep(&mut self, run: &Arc<RunContext>, cx: &mut Context<'_>) -> Poll<Keep> {
        loop {
            let mut watches = false;
            let keep = run.desk.poll_keep(cx, &mut self.wake_at, &mut watches);
            if keep.is_ready() {
                return keep;
            }
            let is_due = self.poll_due(cx).is_ready();
            let is_watched = watches && self.poll_watch(cx).is_ready();
            if is_due {
                run.desk.post(Message::Event(Event::Woke));
            }
            if is_watched {
                (0..run.desk.relieve().unwrap_or(0)).for_each(|_| hand::spawn(run));
            }
            if !is_due && !is_watched {
                return Poll::Pending;
            }
        }
    }

    fn poll_watch(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        let watch = self.watch.get_or_insert_with(|| Box::pin(sleep(WATCH)));
        watch.as_mut().poll(cx).map(|()| self.watch = None)
    }

    fn poll_due(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        if self.set_for != self.wake_at {
            self.set_for = self.wake_at;
            // An instant beyond the end of time is never reached.
            let instant = self.wake_at.and_then(|at| self.clock.instant(at));
            self.sleep = instant.map(|instant| match self.sleep.take() {
                Some(mut sleep) => {
                    sleep.as_mut().reset(instant);
                    sleep
                }
                None => Box::pin(tokio::time::sleep_until(instant)),
            });
        }
        let Some(sleep) = &mut self.sleep else { return Poll::Pending };
        sleep.as_mut().poll(cx).map(|()| {
            self.sleep = None;
            self.wake_at = None;
            self.set_for = None;
        })
    }
}

impl Driver {
    pub(super) fn new(
        scheduler: Scheduler,
        record: Record,
        planner: Arc<dyn Planner>,
        publisher: Option<Publisher>,
    ) -> Self {
        Self {
            clock: Clock::from(record.end()),
            scheduler,
            record,
            planner,
            publisher,
            planning: None,
            listener: None,
            running: 0,
            gathering: output::Gathering::default(),
            failed: None,
            turned: None,
            messages: Vec::new(),
            transition: Transition::default(),
            orders: Orders::default(),
        }
    }

    pub(super) fn messages(&mut self) -> &mut Vec<Message> {
        &mut self.messages
    }

    pub(super) fn turned(&self) -> Option<Instant> {
        self.turned
    }

    /// Whether there will be no more turns.
    pub(super) fn is_over(&self) -> bool {
        self.failed.is_some() || matches!(self.scheduler.phase(), Phase::Stopped | Phase::Finished)
    }

    /// Deals with all messages, in a turn that begins at this instant.
    async fn turn(&mut self, run: &Arc<RunContext>, at: Instant) {
        self.turned = run.journal.is_none().then_some(at);
        let now = self.clock.timestamp(at);
        let mut messages = std::mem::take(&mut self.messages);
        if let Some(spending) = &run.spending {
            for message in &messages {
                if let Message::Event(Event::PlanReturned { reply, .. }) = message {
                    reply.iter().for_each(|reply| spending.add(reply.usage));
                }
            }
            self.scheduler.note_usage(spending.used());
        }
        for message in messages.drain(..) {
            self.decide(message, now, run);
            if run.journal.is_none() && self.publisher.is_none() {
                self.carry_out(run);
            }
        }
        self.messages = messages;
        if self.failed.is_none()
            && let Some(kept) = &run.journal
            && let Err(error) = self.write_down(run, kept).await
        {
            self.failed = Some(error);
        }
        // What is not written down is neither told nor done.
        if self.failed.is_none() {
            self.tell();
            self.carry_out(run);
        }
        self.listen(run);
    }

    /// Sees to it that letters are looked for while there is something to decide.
    fn listen(&mut self, run: &Arc<RunContext>) {
        let is_asked = run.journal.is_some() && self.scheduler.undecided() > 0 && !self.is_over();
        if is_asked != self.listener.is_some() {
            self.listener = is_asked.then(|| Listener::start(run));
        }
    }

    fn decide(&mut self, message: Message, now: Timestamp, run: &RunContext) {
        let event = match message {
            Message::Event(event) => event,
            Message::Letter(letter) if !history::fits(&letter, &self.scheduler) => return,
            Message::Letter(Letter { step, decision, .. }) => Event::Decided { step, decision },
            Message::Failed(error) => {
                self.failed.get_or_insert(error);
                return;
            }
        };
        self.running -= usize::from(matches!(event, Event::AttemptReturned { .. }));
        if self.failed.is_some() {
            return;
        }
        let before = self.transition.events.len();
        self.scheduler.on_event_into(event, now, &mut self.transition);
        let events = &self.transition.events[before..];
        events.iter().for_each(|event| self.record.apply(event));
        run.carried_over.forget(events, &self.scheduler);
    }

    async fn write_down(&self, run: &RunContext, kept: &Kept) -> Result<(), RunError> {
        let events = &self.transition.events;
        if !events.is_empty() {
            // Without a keeper, the runtime shuts down.
            let held = kept.held().ok_or(RunError::Shutdown)?;
            kept.journal.append(&held.claim, events, self.durability(run)).await?;
        }
        Ok(())
    }

    /// What must not get lost even if the power goes out: that an acting tool was called, and an answer.
    fn durability(&self, run: &RunContext) -> Durability {
        let acts = |launch: &Launch| run.start.tools[usize::from(launch.tool)].effect == Effect::Acts;
        let calls = self.transition.commands.iter().any(|command| matches!(command, Command::Launch(l) if acts(l)));
        let ends = |event: &RunEvent| matches!(event.kind, RunEventKind::RunFinished { .. });
        if calls || self.transition.events.iter().any(ends) { Durability::Power } else { Durability::Process }
    }

    fn tell(&mut self) {
        if let Some(publisher) = &self.publisher {
            publisher.publish(self.transition.events.drain(..), &self.scheduler);
        }
    }

    fn carry_out(&mut self, run: &Arc<RunContext>) {
        self.transition.events.clear();
        let mut commands = std::mem::take(&mut self.transition.commands);
        for command in commands.drain(..) {
            match command {
                Command::Launch(launch) => self.launch(launch),
                Command::Abort { attempt } => self.orders.aborts.push(attempt),
                Command::RequestPlan(request) => self.ask(*request, run),
                Command::WakeAt(at) => self.orders.wake_at = Some(at),
            }
        }
        self.transition.commands = commands;
    }

    fn launch(&mut self, mut launch: Box<Launch>) {
        for step in launch.expansion.iter_mut().flat_map(|expansion| &mut expansion.finished) {
            step.output = step.output.as_ref().map(|output| planning::put_together(output, &self.scheduler));
        }
        let gathered = self.gathering.of(&self.scheduler, launch.inputs.listed());
        self.orders.jobs.push(Job { launch, gathered });
        self.running += 1;
    }

    fn ask(&mut self, request: RequestPlan, run: &Arc<RunContext>) {
        let request = planning::request(&self.scheduler, &self.record, request);
        let answer = planning::ask(Arc::clone(&self.planner), request, Arc::clone(run));
        self.planning = Some(tokio::spawn(answer.in_current_span()));
    }

    /// Ends what was started; what does not let itself be ended is waited for no longer than the grace period. Then the
    /// run is anybody's.
    async fn wind_down(&mut self, run: &RunContext, hold: Option<Hold>) {
        if let Some(planning) = &self.planning {
            planning.abort();
        }
        let mut grace = pin!(sleep(Duration::from_millis(self.scheduler.policy().grace_ms)));
        let is_late = matches!(select(pin!(self.gone(run)), grace.as_mut()).await, Either::Right(_));
        if is_late {
            tracing::warn!(run = %run.id, attempts = self.running, "tools go on after the end of the run");
        }
        if self.failed.is_none() {
            let written = match &run.journal {
                Some(kept) => self.write_down(run, kept).await,
                None => Ok(()),
            };
            match written {
                Ok(()) => self.tell(),
                // It has all that is needed to go on with the run.
                Err(error) => {
                    tracing::warn!(run = %run.id, %error, "what the last attempts used is not written down");
                }
            }
        }
        if let Some(hold) = hold {
            select(pin!(hold.release()), grace).await;
        }
    }

    /// Waits until everything that was started is gone.
    async fn gone(&mut self, run: &RunContext) {
        if let Some(planning) = &mut self.planning {
            // An error says that it was aborted, which is what was wanted.
            let _ = planning.await;
        }
        let mut messages = Vec::new();
        loop {
            // The planner may have answered just before it was to end.
            poll_fn(|cx| match run.desk.poll_messages(cx, &mut messages) {
                Poll::Pending if self.running > 0 => Poll::Pending,
                _ => Poll::Ready(()),
            })
            .await;
            messages.drain(..).for_each(|message| self.note_late(message));
            if self.running == 0 {
                return;
            }
        }
    }

    /// What still comes when the run is over says only what was used. Time has stopped with the run.
    #[cold]
    fn note_late(&mut self, message: Message) {
        let Message::Event(event @ (Event::AttemptReturned { .. } | Event::PlanReturned { .. })) = message else {
            return;
        };
        self.running -= usize::from(matches!(event, Event::AttemptReturned { .. }));
        if self.failed.is_none() {
            let before = self.transition.events.len();
            self.scheduler.on_event_into(event, self.record.end(), &mut self.transition);
            self.transition.events[before..].iter().for_each(|event| self.record.apply(event));
        }
    }
}

/// The run's own clock: it goes on from where an earlier process left it.
#[derive(Clone, Copy, Debug)]
struct Clock {
    since: Timestamp,
    at: Instant,
}

impl Clock {
    fn from(since: Timestamp) -> Self {
        Self { since, at: Instant::now() }
    }

    fn timestamp(&self, instant: Instant) -> Timestamp {
        self.since + (instant - self.at)
    }

    fn instant(&self, timestamp: Timestamp) -> Option<Instant> {
        self.at.checked_add(timestamp - self.since)
    }
}
