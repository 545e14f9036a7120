//! The loop: tells the scheduler what happened, then writes down, tells and does what it says.

use std::collections::VecDeque;
use std::future::poll_fn;
use std::pin::Pin;
use std::sync::Arc;
use std::task::Poll;
use std::time::Duration;

use tokio::sync::mpsc::UnboundedReceiver;
use tokio::task::JoinHandle;
use tokio::time::{Instant, Sleep};
use tracing::Instrument as _;

use crate::error::{JournalError, RunError};
use crate::event::{AttemptNumber, Command, Event, Launch, RequestPlan, RunEvent, RunEventKind, Timestamp, Transition};
use crate::journal::Durability;
use crate::planner::Planner;
use crate::report::{Record, RunReport};
use crate::scheduler::{Phase, Scheduler};
use crate::tool::Effect;

use super::attempt::{Message, RunContext, attempt};
use super::live::Publisher;
use super::{output, planning};

/// Messages taken at once, so that journal and readers are bothered once for all of them.
const BATCH: usize = 256;

/// One run while a process drives it. It owns all of the run's state; everything else sends it messages.
pub(super) struct Driver {
    scheduler: Scheduler,
    record: Record,
    run: Arc<RunContext>,
    planner: Arc<dyn Planner>,
    inbox: UnboundedReceiver<Message>,
    publisher: Option<Publisher>,
    clock: Clock,
    timer: Option<Pin<Box<Sleep>>>,
    running: Running,
    planning: Option<JoinHandle<()>>,
    transition: Transition,
}

impl Driver {
    pub(super) fn new(
        scheduler: Scheduler,
        record: Record,
        run: Arc<RunContext>,
        planner: Arc<dyn Planner>,
        inbox: UnboundedReceiver<Message>,
        publisher: Option<Publisher>,
    ) -> Self {
        Self {
            clock: Clock::from(record.end()),
            running: Running::from(scheduler.attempts()),
            scheduler,
            record,
            run,
            planner,
            inbox,
            publisher,
            timer: None,
            planning: None,
            transition: Transition::default(),
        }
    }

    /// Drives the run until it is finished or stopped.
    pub(super) async fn drive(mut self, first: Event) -> Result<RunReport, RunError> {
        let driven = self.turns(first).await;
        // Nothing that was started may outlive the run, whichever way it ended.
        self.wind_down().await;
        driven?;
        let Self { scheduler, record, run, .. } = self;
        let mut report = RunReport::new(run.id.clone(), scheduler, record);
        if let Some(journal) = &run.journal {
            report.fetch_answer(&**journal).await?;
        }
        Ok(report)
    }

    async fn turns(&mut self, first: Event) -> Result<(), RunError> {
        let mut messages = vec![Message::Event(first)];
        loop {
            let now = self.clock.now();
            for message in messages.drain(..) {
                self.decide(message, now)?;
                if self.run.journal.is_none() && self.publisher.is_none() {
                    self.carry_out();
                }
            }
            self.write_down().await?;
            self.tell();
            self.carry_out();
            if matches!(self.scheduler.phase(), Phase::Stopped | Phase::Finished) {
                return Ok(());
            }
            self.receive(&mut messages).await;
        }
    }

    /// Waits for messages, or until the scheduler wants to be woken.
    async fn receive(&mut self, messages: &mut Vec<Message>) {
        poll_fn(|cx| {
            if self.inbox.poll_recv_many(cx, messages, BATCH).is_ready() {
                return Poll::Ready(());
            }
            if self.timer.as_mut().is_some_and(|timer| timer.as_mut().poll(cx).is_ready()) {
                self.timer = None;
                messages.push(Message::Event(Event::Woke));
                return Poll::Ready(());
            }
            Poll::Pending
        })
        .await;
        for message in messages {
            if let Message::Event(Event::AttemptReturned { attempt, .. }) = message {
                self.running.remove(*attempt);
            }
        }
    }

    fn decide(&mut self, message: Message, now: Timestamp) -> Result<(), RunError> {
        let event = match message {
            Message::Event(event) => event,
            Message::Failed(error) => return Err(error),
        };
        let before = self.transition.events.len();
        self.scheduler.on_event_into(event, now, &mut self.transition);
        for event in &self.transition.events[before..] {
            self.record.apply(event);
        }
        Ok(())
    }

    async fn write_down(&mut self) -> Result<(), JournalError> {
        let events = &self.transition.events;
        match &self.run.journal {
            Some(journal) if !events.is_empty() => journal.append(&self.run.id, events, self.durability()).await,
            _ => Ok(()),
        }
    }

    /// What must not get lost even if the power goes out: that an acting tool was called, and an answer.
    fn durability(&self) -> Durability {
        let acts = |launch: &Launch| self.run.start.tools[usize::from(launch.tool)].effect == Effect::Acts;
        let calls = self.transition.commands.iter().any(|command| matches!(command, Command::Launch(l) if acts(l)));
        let ends = |event: &RunEvent| matches!(event.kind, RunEventKind::RunFinished { .. });
        if calls || self.transition.events.iter().any(ends) { Durability::Power } else { Durability::Process }
    }

    fn tell(&mut self) {
        if let Some(publisher) = &self.publisher {
            publisher.publish(self.transition.events.drain(..), &self.scheduler);
        }
    }

    fn carry_out(&mut self) {
        self.transition.events.clear();
        let mut commands = std::mem::take(&mut self.transition.commands);
        for command in commands.drain(..) {
            match command {
                Command::Launch(launch) => self.launch(launch),
                Command::Abort { attempt } => self.running.abort(attempt),
                Command::RequestPlan(request) => self.ask(request),
                Command::WakeAt(at) => self.wake_at(at),
            }
        }
        self.transition.commands = commands;
    }

    fn launch(&mut self, launch: Launch) {
        let number = launch.attempt;
        let parts = output::parts(&self.scheduler, &launch.inputs);
        let span = tracing::info_span!("attempt", run = %self.run.id, step = %launch.id, attempt = number);
        let task = tokio::spawn(attempt(Arc::clone(&self.run), launch, parts).instrument(span));
        self.running.insert(number, task);
    }

    fn ask(&mut self, request: RequestPlan) {
        let request = planning::request(&self.scheduler, &self.record, request);
        let answer = planning::ask(Arc::clone(&self.planner), request, Arc::clone(&self.run));
        self.planning = Some(tokio::spawn(answer.in_current_span()));
    }

    fn wake_at(&mut self, at: Timestamp) {
        // An instant beyond the end of time is never reached.
        self.timer = self.clock.instant(at).map(|instant| match self.timer.take() {
            Some(mut timer) => {
                timer.as_mut().reset(instant);
                timer
            }
            None => Box::pin(tokio::time::sleep_until(instant)),
        });
    }

    /// Ends everything that was started, and waits until it is gone; for what does not let itself be ended, no
    /// longer than the grace period.
    async fn wind_down(&mut self) {
        if let Some(planning) = &self.planning {
            planning.abort();
        }
        self.running.abort_all();
        let grace = Duration::from_millis(self.scheduler.policy().grace_ms);
        let gone = async {
            while !self.running.is_empty() {
                if let Some(Message::Event(Event::AttemptReturned { attempt, .. })) = self.inbox.recv().await {
                    self.running.remove(attempt);
                }
            }
            if let Some(planning) = &mut self.planning {
                // An error says that it was aborted, which is what was wanted.
                let _ = planning.await;
            }
        };
        if tokio::time::timeout(grace, gone).await.is_err() {
            tracing::warn!(run = %self.run.id, attempts = self.running.len(), "tools go on after the end of the run");
        }
    }
}

/// The tasks of running attempts. Attempts are numbered as they start, so a window over the numbers holds all of them.
#[derive(Default)]
struct Running {
    first: AttemptNumber,
    tasks: VecDeque<Option<JoinHandle<()>>>,
    count: usize,
}

impl Running {
    /// None yet; the first will have this number.
    fn from(first: AttemptNumber) -> Self {
        Self { first, ..Self::default() }
    }

    fn insert(&mut self, attempt: AttemptNumber, task: JoinHandle<()>) {
        debug_assert_eq!(attempt, self.first + self.tasks.len() as u32, "attempts start in order");
        self.tasks.push_back(Some(task));
        self.count += 1;
    }

    fn get_mut(&mut self, attempt: AttemptNumber) -> Option<&mut Option<JoinHandle<()>>> {
        self.tasks.get_mut(attempt.checked_sub(self.first)? as usize)
    }

    fn remove(&mut self, attempt: AttemptNumber) {
        if self.get_mut(attempt).and_then(Option::take).is_some() {
            self.count -= 1;
        }
        while let Some(None) = self.tasks.front() {
            self.tasks.pop_front();
            self.first += 1;
        }
    }

    fn abort(&mut self, attempt: AttemptNumber) {
        if let Some(Some(task)) = self.get_mut(attempt) {
            task.abort();
        }
    }

    fn abort_all(&self) {
        self.tasks.iter().flatten().for_each(JoinHandle::abort);
    }

    fn len(&self) -> usize {
        self.count
    }

    fn is_empty(&self) -> bool {
        self.count == 0
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

    fn now(&self) -> Timestamp {
        self.since + self.at.elapsed()
    }

    fn instant(&self, timestamp: Timestamp) -> Option<Instant> {
        self.at.checked_add(timestamp - self.since)
    }
}
