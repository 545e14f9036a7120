//! What others see of a run while it goes on. The loop writes, any number of readers read, and it waits for none.

use std::collections::{BTreeMap, VecDeque};
use std::fmt;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker};

use dashmap::DashMap;
use dashmap::mapref::one::RefMut;
use futures::Stream;

use crate::event::{Graft, RunEvent, RunEventKind, StepNumber, Timestamp, Usage};
use crate::plan::{Step, StepId};
use crate::scheduler::{Phase, Scheduler, StepState, StepView};

/// So many events are kept for readers that come late or are slow, and more of one turn.
const KEPT_EVENTS: usize = 65_536;

/// A run as its handle shows it.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct RunView {
    /// Where the run is.
    pub phase: Phase,
    /// When its last event happened.
    pub at: Timestamp,
    /// How many plans were accepted.
    pub revision: u32,
    /// What it has used so far.
    pub usage: Usage,
    /// Its steps, by number.
    pub steps: Vec<LiveStep>,
}

/// A step as a run's handle shows it.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct LiveStep {
    /// Its number.
    pub number: StepNumber,
    /// Its full id.
    pub id: StepId,
    /// What it does.
    pub definition: Arc<Step>,
    /// Its state. A step that has all it needs and waits for a slot may still be shown as waiting.
    pub state: StepState,
    /// When it last changed.
    pub changed: Timestamp,
    /// The step whose expansion it is part of.
    pub parent: Option<StepNumber>,
    /// Whether it is part of the plan as that is now.
    pub member: bool,
    /// Tries so far.
    pub tries: u32,
}

impl LiveStep {
    fn new(step: &StepView<'_>, at: Timestamp) -> Self {
        Self {
            number: step.number,
            id: step.id.clone(),
            definition: Arc::clone(step.definition),
            state: step.state,
            changed: at,
            parent: step.parent,
            member: step.member,
            tries: step.tries,
        }
    }
}

/// How many steps are kept together. What happens in a large run happens to neighbours, by and large, so most of the
/// time the place of the next step is at hand.
const PAGE: usize = 64;
/// How many locks there are for them: whoever reads may do so on each core.
const SHARDS: usize = 16;

/// A page that is being written.
type OpenPage<'a> = RefMut<'a, usize, Vec<LiveStep>>;

/// The side of a run that its handle looks at.
pub(super) struct Live {
    /// Steps by number, in pages.
    steps: DashMap<usize, Vec<LiveStep>, foldhash::fast::RandomState>,
    head: Mutex<Head>,
    log: Mutex<Log>,
}

#[derive(Clone, Copy)]
struct Head {
    phase: Phase,
    at: Timestamp,
    revision: u32,
    usage: Usage,
}

#[derive(Default)]
struct Log {
    /// The number of the first event there was.
    first: u64,
    batches: VecDeque<Arc<[RunEvent]>>,
    kept: usize,
    ended: bool,
    /// The readers that there have been, and those that wait, by number.
    readers: u64,
    waiting: BTreeMap<u64, Waker>,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Live {
    pub(super) fn new() -> Self {
        let head = Head { phase: Phase::New, at: Timestamp::ZERO, revision: 0, usage: Usage::default() };
        Self {
            steps: DashMap::with_hasher_and_shard_amount(Default::default(), SHARDS),
            head: Mutex::new(head),
            log: Mutex::default(),
        }
    }

    fn append(&self, batch: Arc<[RunEvent]>) {
        let waiting = {
            let mut log = lock(&self.log);
            log.kept += batch.len();
            log.batches.push_back(batch);
            while let Some(oldest) = log.batches.front().map(|oldest| oldest.len())
                && log.kept - oldest >= KEPT_EVENTS
            {
                log.batches.pop_front();
                log.kept -= oldest;
            }
            std::mem::take(&mut log.waiting)
        };
        waiting.into_values().for_each(Waker::wake);
    }

    fn show(&self, events: &[RunEvent], scheduler: &Scheduler) {
        let mut open = None;
        events.iter().for_each(|event| self.show_event(event, scheduler, &mut open));
    }

    /// `open` is the page that was shown last: events in a row are mostly of the same one.
    fn show_event<'a>(&'a self, event: &RunEvent, scheduler: &Scheduler, open: &mut Option<OpenPage<'a>>) {
        let show_graft = |graft: &Graft, open: &mut Option<OpenPage<'a>>| {
            *open = None;
            self.show_added(graft, event.at, scheduler);
            let touched = [&graft.joined, &graft.closed, &graft.left].into_iter().flatten().copied();
            let touched = touched.chain(graft.settings.iter().map(|(number, _)| *number));
            touched.for_each(|number| self.show_step(number, event.at, scheduler, open));
        };
        let mut show = |number: StepNumber| self.show_step(number, event.at, scheduler, open);
        match &event.kind {
            RunEventKind::PlanAccepted { graft, .. } | RunEventKind::StepDrafted { graft, .. } => {
                show_graft(graft, open);
            }
            RunEventKind::StepExpanded { step, graft, .. } => {
                show_graft(graft, open);
                self.show_step(*step, event.at, scheduler, open);
            }
            RunEventKind::PlanRejected { rejection, .. } => {
                rejection.closed.iter().chain(&rejection.left).copied().for_each(show);
            }
            RunEventKind::StepReady { step }
            | RunEventKind::ApprovalRequested { step, .. }
            | RunEventKind::StepApproved { step }
            | RunEventKind::AttemptStarted { step, .. }
            | RunEventKind::StepUnknown { step, .. }
            | RunEventKind::AttemptFailed { step, .. }
            | RunEventKind::StepSucceeded { step, .. }
            | RunEventKind::StepFailed { step, .. }
            | RunEventKind::StepSkipped { step, .. } => show(*step),
            RunEventKind::RunFinished { .. } => {
                *open = None;
                self.show_end(event.at, scheduler);
            }
            RunEventKind::RunStarted { .. }
            | RunEventKind::RunResumed { .. }
            | RunEventKind::StopRequested { .. }
            | RunEventKind::UsageNoted { .. }
            | RunEventKind::RunStopped { .. }
            | RunEventKind::PlanRequested { .. }
            | RunEventKind::PlanPutOff { .. }
            | RunEventKind::AttemptDiscarded { .. } => {}
        }
    }

    /// New steps come in the order of their numbers.
    fn show_added(&self, graft: &Graft, at: Timestamp, scheduler: &Scheduler) {
        let mut next = graft.first as usize;
        let end = next + graft.added.len();
        while next < end {
            let page = next / PAGE;
            let numbers = next..end.min((page + 1) * PAGE);
            next = numbers.end;
            let steps = numbers.filter_map(|number| scheduler.step(number as StepNumber));
            self.steps.entry(page).or_default().extend(steps.map(|step| LiveStep::new(&step, at)));
        }
    }

    /// What was still open at the end of the run is superseded now.
    fn show_end(&self, at: Timestamp, scheduler: &Scheduler) {
        for mut page in self.steps.iter_mut() {
            for shown in page.iter_mut() {
                let state = scheduler.step(shown.number).map_or(shown.state, |step| step.state);
                if shown.state != state {
                    (shown.state, shown.changed) = (state, at);
                }
            }
        }
    }

    fn show_step<'a>(
        &'a self,
        number: StepNumber,
        at: Timestamp,
        scheduler: &Scheduler,
        open: &mut Option<OpenPage<'a>>,
    ) {
        let Some(step) = scheduler.step(number) else { return };
        let page = number as usize / PAGE;
        if open.as_ref().is_none_or(|open| *open.key() != page) {
            // It is given back before another one is taken: the two may share a lock.
            *open = None;
            *open = self.steps.get_mut(&page);
        }
        let Some(shown) = open.as_mut().and_then(|page| page.get_mut(number as usize % PAGE)) else { return };
        // Its number and its id are all that never changes.
        let LiveStep { number: _, id: _, definition, state, changed, parent, member, tries } = shown;
        if !Arc::ptr_eq(definition, step.definition) {
            definition.clone_from(step.definition);
        }
        (*state, *changed, *parent) = (step.state, at, step.parent);
        (*member, *tries) = (step.member, step.tries);
    }

    pub(super) fn view(&self) -> RunView {
        let Head { phase, at, revision, usage } = *lock(&self.head);
        let mut steps: Vec<LiveStep> = self.steps.iter().flat_map(|page| page.value().clone()).collect();
        steps.sort_unstable_by_key(|step| step.number);
        RunView { phase, at, revision, usage, steps }
    }
}

/// The writing side of a [`Live`]. The readers' streams end when it is dropped, however the run came to its end.
pub(super) struct Publisher(Arc<Live>);

impl Publisher {
    pub(super) fn new(live: Arc<Live>) -> Self {
        Self(live)
    }

    /// Shows the run as an earlier process left it. The first event will be the one after `history`.
    pub(super) fn resume(&self, history: &[RunEvent], scheduler: &Scheduler) {
        self.show(history, scheduler);
        lock(&self.0.log).first = history.last().map_or(0, |last| last.seq + 1);
    }

    /// Shows what `scheduler` has come to through `events`, and hands these to the readers.
    pub(super) fn publish(&self, events: impl ExactSizeIterator<Item = RunEvent>, scheduler: &Scheduler) {
        let batch: Arc<[RunEvent]> = events.collect();
        if batch.is_empty() {
            return;
        }
        self.show(&batch, scheduler);
        self.0.append(batch);
    }

    fn show(&self, events: &[RunEvent], scheduler: &Scheduler) {
        let Some(last) = events.last() else { return };
        self.0.show(events, scheduler);
        *lock(&self.0.head) =
            Head { phase: scheduler.phase(), at: last.at, revision: scheduler.revision(), usage: scheduler.usage() };
    }
}

impl Drop for Publisher {
    fn drop(&mut self) {
        let waiting = {
            let mut log = lock(&self.0.log);
            log.ended = true;
            std::mem::take(&mut log.waiting)
        };
        waiting.into_values().for_each(Waker::wake);
    }
}

/// The events of a run, from the first one on that this process has made happen, as a [`Stream`]. It ends when the run
/// does, or stops. Of a run that was resumed, the first is the resumption: what was before is in
/// [`Journal::history`](crate::journal::Journal::history).
///
/// The run does not wait for its readers. At least the last 65,536 events are kept for them; a reader that falls further
/// behind goes on with the oldest that is left, and [`missed`](Self::missed) says how many it has lost. The numbers of
/// the events ([`RunEvent::seq`]) show where.
pub struct Events {
    live: Arc<Live>,
    /// Its own among the readers.
    number: u64,
    /// The number of the next event; none before the first.
    next: Option<u64>,
    batch: Option<Arc<[RunEvent]>>,
    missed: u64,
}

impl Events {
    pub(super) fn new(live: Arc<Live>) -> Self {
        let number = {
            let mut log = lock(&live.log);
            log.readers += 1;
            log.readers
        };
        Self { live, number, next: None, batch: None, missed: 0 }
    }

    /// How many events this reader came too late for.
    pub fn missed(&self) -> u64 {
        self.missed
    }

    /// The next event, if it is in the batch at hand.
    fn next_of_batch(&mut self) -> Option<RunEvent> {
        let batch = self.batch.as_ref()?;
        let index = self.next?.checked_sub(batch.first()?.seq)?;
        let event = batch.get(usize::try_from(index).ok()?).cloned();
        match event {
            Some(_) => self.next = self.next.map(|next| next + 1),
            None => self.batch = None,
        }
        event
    }

    /// Takes the batch with the next event, or the oldest one after it.
    fn take_batch(&mut self, cx: &Context<'_>) -> Poll<Option<()>> {
        let mut log = lock(&self.live.log);
        let next = self.next.unwrap_or(log.first);
        let newer = log.batches.partition_point(|batch| batch.last().is_none_or(|last| last.seq < next));
        if let Some(batch) = log.batches.get(newer) {
            let first = batch.first().map_or(next, |event| event.seq);
            self.missed += first.saturating_sub(next);
            self.next = Some(next.max(first));
            self.batch = Some(Arc::clone(batch));
            Poll::Ready(Some(()))
        } else if log.ended {
            Poll::Ready(None)
        } else {
            log.waiting.entry(self.number).or_insert_with(|| cx.waker().clone()).clone_from(cx.waker());
            Poll::Pending
        }
    }
}

impl Stream for Events {
    type Item = RunEvent;

    fn poll_next(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<RunEvent>> {
        let this = self.get_mut();
        loop {
            if let Some(event) = this.next_of_batch() {
                return Poll::Ready(Some(event));
            }
            match this.take_batch(cx) {
                Poll::Ready(Some(())) => {}
                Poll::Ready(None) => return Poll::Ready(None),
                Poll::Pending => return Poll::Pending,
            }
        }
    }
}

impl Drop for Events {
    fn drop(&mut self) {
        lock(&self.live.log).waiting.remove(&self.number);
    }
}

impl fmt::Debug for Events {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Events").field("next", &self.next).field("missed", &self.missed).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use futures::{FutureExt as _, StreamExt as _};

    use super::*;

    #[test]
    fn a_reader_that_is_dropped_waits_no_longer() {
        let live = Arc::new(Live::new());
        let mut readers: Vec<Events> = (0..3).map(|_| Events::new(Arc::clone(&live))).collect();
        for _ in 0..2 {
            readers.iter_mut().for_each(|events| assert!(events.next().now_or_never().is_none()));
            assert_eq!(lock(&live.log).waiting.len(), 3);
        }
        readers.pop();
        assert_eq!(lock(&live.log).waiting.len(), 2);
        drop(readers);
        assert!(lock(&live.log).waiting.is_empty());
    }
}
