//! The record, event by event.

use std::collections::BTreeSet;

use plandag::{AnswerFrom, AttemptNumber, Graft, Output, PlanReply, Revision, RunOutcome};
use plandag::{
    Decision, Event, PlanError, PlanReason, Rejection, RequestNumber, Returned, RunEvent, RunEventKind, SkipReason,
    StepError, StepErrorKind, StepNumber, StopReason, Timestamp, Usage,
};
use serde_json::json;

use super::Checker;
use super::books::{Pending, Phase, State};
use super::plan::same_settings;
use super::revision::{Fate, Verdict, judge};

impl Checker {
    pub(super) fn record(&mut self, event: &RunEvent) {
        let (seq, now) = (self.seq, self.now);
        self.must(event.seq == seq, "the record is gapless", || format!("{} follows {seq}", event.seq));
        self.must(event.at >= now, "the run's clock never goes back", || format!("{} after {now}", event.at));
        let is_over = self.books.phase == Phase::Finished && !matches!(event.kind, RunEventKind::UsageNoted { .. });
        self.must(!is_over, "a finished run never moves", || format!("{event:?}"));
        self.seq = event.seq + 1;
        self.now = event.at;
        match &event.kind {
            RunEventKind::RunStarted { .. } => self.books.phase = Phase::Running,
            RunEventKind::RunResumed { policy } => {
                self.books.phase = Phase::Running;
                self.late.clear();
                if let Some(policy) = policy {
                    self.books.policy = (**policy).clone();
                    self.books.pools.extend(policy.pools.clone());
                }
            }
            RunEventKind::StopRequested { why } => {
                let wanted = |step: &StepNumber| self.books.step(*step).state != State::Superseded;
                let is_due = self.books.is_called_enough() && !self.books.attempts.values().any(wanted);
                let is_right = *why != StopReason::Attempts || is_due;
                self.must(is_right, "as many tools are called as may be", || "it stops before".into());
                self.books.phase = Phase::Stopping;
            }
            RunEventKind::RunStopped { .. } => {
                self.books.phase = Phase::Stopped;
                self.doubt_all();
            }
            RunEventKind::UsageNoted { attempt, usage } => {
                let phase = self.books.phase;
                let is_over = matches!(phase, Phase::Stopped | Phase::Finished);
                self.must(is_over, "usage is noted late only by a run that is over", || format!("{phase:?}"));
                let was_running = attempt.is_none_or(|attempt| self.books.attempts.contains_key(&attempt));
                self.must(was_running, "usage is noted of what was running", || format!("{attempt:?}"));
                let told = match &self.told {
                    Some(Event::AttemptReturned { attempt: told, usage, .. }) => Some((Some(*told), *usage)),
                    Some(Event::PlanReturned { reply, .. }) => {
                        reply.as_ref().as_ref().ok().map(|reply| (None, reply.usage))
                    }
                    _ => None,
                };
                self.must(told.is_none_or(|told| told == (*attempt, *usage)), "usage is noted as it was told", || {
                    format!("{told:?}")
                });
                let is_new = self.late.insert(*attempt);
                self.must(is_new, "usage is noted once", || format!("{attempt:?}"));
                self.usage += *usage;
            }
            RunEventKind::RunFinished { outcome, usage } => {
                self.usage += *usage;
                self.finished(outcome);
            }
            RunEventKind::PlanRequested { request, revision, reason, reported } => {
                self.requested(*request, *revision, reason, reported);
            }
            RunEventKind::PlanAccepted { request, revision, graft, usage } => {
                self.usage += *usage;
                self.accepted(*request, *revision, graft);
            }
            RunEventKind::PlanRejected { request, rejection, usage } => {
                self.usage += *usage;
                self.rejected(*request, rejection);
            }
            RunEventKind::PlanPutOff { request, error, retry_at, usage } => {
                self.usage += *usage;
                self.put_off(*request, error, *retry_at);
            }
            RunEventKind::StepDrafted { request, graft } => self.drafted(*request, graft),
            RunEventKind::StepExpanded { step, attempt, graft, usage } => {
                self.expanded(*step, *attempt, graft, *usage);
            }
            RunEventKind::StepReady { step } => self.ready(*step),
            RunEventKind::ApprovalRequested { step, from } => self.approval_requested(*step, *from),
            RunEventKind::StepApproved { step } => self.approved(*step),
            RunEventKind::AttemptStarted { step, attempt } => self.attempt_started(*step, *attempt),
            RunEventKind::StepUnknown { step, attempt, error, usage } => {
                self.ends(*step, *attempt, *usage);
                let asks = self.books.must_ask(&self.books.step(*step).definition);
                let unsure = matches!(
                    error.kind,
                    StepErrorKind::Interrupted
                        | StepErrorKind::Stopped
                        | StepErrorKind::Timeout
                        | StepErrorKind::Aborted
                );
                self.must(asks && unsure, "only acting steps of unsure outcome are unknown", || {
                    format!("step {step} after {error:?}")
                });
                // An interruption uses up no try, here as elsewhere.
                self.books.step_mut(*step).tries += u32::from(error.kind == StepErrorKind::Timeout);
                self.books.step_mut(*step).in_doubt = true;
                self.books.set_state(*step, State::Unknown);
            }
            RunEventKind::AttemptFailed { step, attempt, error, retry_at, usage } => {
                self.ends(*step, *attempt, *usage);
                self.books.no_calls += u64::from(error.kind == StepErrorKind::Deferred);
                self.attempt_failed(*step, error, *retry_at);
            }
            RunEventKind::AttemptDiscarded { attempt, usage } => {
                let step = self.books.attempts.get(attempt).copied();
                let is_unwanted = step.is_some_and(|step| self.books.step(step).state == State::Superseded);
                self.must(is_unwanted, "only results that nobody wants are discarded", || {
                    format!("attempt {attempt} of {step:?}")
                });
                if let Some(step) = step {
                    self.ends(step, *attempt, *usage);
                }
            }
            RunEventKind::StepSucceeded { step, attempt, output, usage } => {
                match attempt {
                    Some(attempt) => {
                        let is_its_own = match &self.told {
                            Some(Event::AttemptReturned { result: Ok(Returned::Value(value)), .. }) => value == output,
                            Some(Event::AttemptReturned { result: Ok(Returned::Plan(plan)), .. }) => {
                                plan.steps.is_empty() && *output == Output::inline(json!({}))
                            }
                            Some(_) => false,
                            None => true,
                        };
                        self.must(is_its_own, "a step's output is what its tool returned", || format!("step {step}"));
                        self.ends(*step, *attempt, *usage);
                    }
                    None => self.ends_without_attempt(*step, true),
                }
                self.settle(*step, State::Succeeded(output.clone()));
            }
            RunEventKind::StepFailed { step, attempt, error, usage } => {
                match attempt {
                    Some(attempt) => {
                        self.ends(*step, *attempt, *usage);
                        self.books.no_calls += u64::from(error.kind == StepErrorKind::BadReference);
                    }
                    None => self.ends_without_attempt(*step, false),
                }
                let covered = self.books.step(*step).definition.on_failure == plandag::OnFailure::Continue;
                self.settle(*step, if covered { State::Covered(error.clone()) } else { State::Failed });
                self.close_gate(*step, error);
            }
            RunEventKind::StepSkipped { step, because, attempt } => self.skipped(*step, *because, *attempt),
        }
    }

    fn settle(&mut self, step: StepNumber, state: State) {
        let before = &self.books.step(step).state;
        if before.is_terminal() {
            let message = format!("step {step} is {before:?}, then {state:?}");
            self.wrong("one terminal state per step", message);
        }
        self.books.set_state(step, state);
        self.touched.push(step);
    }

    /// An attempt is over, with something in the record to show for it.
    fn ends(&mut self, step: StepNumber, attempt: AttemptNumber, usage: Usage) {
        self.usage += usage;
        let runs = self.books.attempts.remove(&attempt) == Some(step) && self.over.insert(attempt);
        let is_wanted = self.books.step(step).state == State::Running(attempt);
        self.books.seen |= is_wanted && self.books.brings_in(step);
        self.must(runs, "every attempt ends once", || format!("attempt {attempt} of step {step}"));
        if let Some(Event::AttemptReturned { attempt: told, .. }) = self.told {
            self.must(told == attempt, "late and doubled results change nothing", || {
                format!("attempt {attempt} ends when {told} returns")
            });
        }
    }

    /// An expansion is done, or a person has decided.
    fn ends_without_attempt(&mut self, step: StepNumber, succeeds: bool) {
        let state = self.books.step(step).state.clone();
        let allowed = match state {
            State::Expanded => {
                let failed = self.books.children(Some(step)).any(|child| self.books.step(child).state == State::Failed);
                self.books.is_done_inside(step) && failed != succeeds && !self.books.wants_another_plan(step)
            }
            State::Unknown => match &self.told {
                Some(Event::Decided { step: decided, decision }) => {
                    *decided == step && matches!(decision, Decision::Succeeded(_)) == succeeds
                }
                Some(_) => false,
                None => true,
            },
            State::Unapproved => !succeeds && self.is_denied(step),
            // The steps of an expansion were interrupted too often.
            _ => false,
        };
        self.must(allowed, "a parent ends after its children, an unknown step when it is decided", || {
            format!("step {step} was {state:?}, succeeds: {succeeds}")
        });
    }

    fn requested(&mut self, request: RequestNumber, revision: u32, reason: &PlanReason, reported: &[StepNumber]) {
        self.must(self.books.pending.is_none(), "the planner is asked one thing at a time", || format!("{request}"));
        let last = self.last_request;
        self.must(last.is_none_or(|last| request > last), "request numbers are unique", || format!("{request}"));
        let due = self.revision + 1;
        self.must(revision == due, "revisions are counted", || format!("{revision}, not {due}"));
        self.last_request = Some(request);
        let is_open = self.books.may_be_asked(self.now);
        self.must(is_open, "a server that asked to be left alone is", || format!("request {request} is made"));
        let usage = self.usage;
        self.must(!self.is_used_up(), "what is used is limited", || format!("request {request} after {usage:?}"));
        self.books.planner_saw = self.books.seen;
        if let Some(cut_off) = self.cut_off.take() {
            let is_same = cut_off.reason == *reason && cut_off.reported == reported;
            self.must(is_same, "a request that was cut off is made again", || format!("{reason:?} after {cut_off:?}"));
        } else {
            self.count_request(reason, reported);
        }
        for &step in reported {
            self.books.step_mut(step).reported = true;
        }
        let (reason, reported) = (reason.clone(), reported.to_vec());
        self.books.pending = Some(Pending { request, revision, reason, reported });
    }

    fn count_request(&mut self, reason: &PlanReason, reported: &[StepNumber]) {
        match reason {
            PlanReason::Rejected(_) => {
                let (rejections, cap) = (self.rejections, self.books.policy.max_corrections);
                self.must(rejections <= cap, "corrections are capped", || format!("{rejections} rejections"));
            }
            PlanReason::First => self.rejections = 0,
            PlanReason::Failures | PlanReason::Review => {
                self.replans += 1;
                self.rejections = 0;
                // At the cap a review may still ask for an answer from what is done.
                let extra = u32::from(*reason == PlanReason::Review);
                let (replans, cap) = (self.replans, self.books.policy.max_replans + extra);
                self.must(replans <= cap, "replans are capped", || format!("{replans}"));
            }
        }
        if *reason == PlanReason::Failures {
            let news = reported.iter().any(|&step| !self.books.step(step).reported);
            self.must(news, "nobody is asked twice about the same failures alone", || format!("{reported:?}"));
            let failed: BTreeSet<StepNumber> = self.failed_members().into_iter().collect();
            let said: BTreeSet<StepNumber> = reported.iter().copied().collect();
            self.must(said == failed, "a request reports all failures", || format!("{said:?}, failed are {failed:?}"));
        }
    }

    /// Steps of the root plan that failed by themselves and that the planner has to know of.
    pub(super) fn failed_members(&self) -> Vec<StepNumber> {
        let members = self.books.children(None);
        members.filter(|&step| self.books.step(step).state == State::Failed && !self.books.step(step).draft).collect()
    }

    fn answers_pending(&mut self, request: RequestNumber) {
        let pending = self.books.pending.as_ref().map(|pending| pending.request);
        self.must(pending == Some(request), "late and stale plans change nothing", || {
            format!("request {request} is answered, {pending:?} is pending")
        });
    }

    fn accepted(&mut self, request: RequestNumber, revision: u32, graft: &Graft) {
        self.answers_pending(request);
        let due = self.books.pending.take().map(|pending| pending.revision);
        self.must(due == Some(revision), "revisions are counted", || format!("{revision}, not {due:?}"));
        self.revision = revision;
        (self.rejections, self.put_off) = (0, 0);
        self.must(graft.scope.is_none(), "a plan of the run is in no expansion", || format!("{graft:?}"));
        let told = match &self.told {
            Some(Event::PlanReturned { request: told, reply, .. }) if *told == request && reply.is_ok() => {
                reply.as_ref().as_ref().ok().map(|reply| (judge(&self.books, &reply.revision), reply.revision.clone()))
            }
            Some(event) => {
                let message = format!("request {request} is accepted when told {event:?}");
                return self.wrong("only a plan that came is accepted", message);
            }
            None => None,
        };
        let members: Vec<StepNumber> = self.books.children(None).collect();
        let forgotten: Vec<StepNumber> = graft.forgotten.clone();
        self.graft(graft, false);
        let Some((verdict, reply)) = told else {
            // What the plan says about its answer cannot be seen, so the record is believed.
            self.books.answer = match graft.answer {
                AnswerFrom::Step(step) => Some(self.books.step(step).id.clone()),
                _ => None,
            };
            return;
        };
        match verdict {
            Verdict::Bad(why) => self.wrong("a plan that cannot run is rejected", format!("{why}: {reply:?}")),
            Verdict::Unclear => {}
            Verdict::Good(fates) => {
                for (id, (fate, listed)) in &fates {
                    let current = self.books.current.get(id).copied();
                    let record = current.map(|current| self.books.step(current));
                    let is_right = current.zip(record).is_some_and(|(current, step)| {
                        step.member
                            && !step.draft
                            && step.state != State::Superseded
                            && match fate {
                                Fate::Kept(number) => current == *number,
                                Fate::New => current >= graft.first,
                                Fate::Either => true,
                            }
                    });
                    let is_done_so =
                        record.is_some_and(|step| step.state.is_terminal() || same_settings(&step.definition, listed));
                    self.must(is_right, "steps are kept or made anew by the rules", || {
                        format!("`{id}` should be {fate:?}, is {current:?}")
                    });
                    self.must(is_done_so, "unsettled steps have the settings of the plan", || format!("`{id}`"));
                }
                let strange = self.books.children(None).find(|&step| !fates.contains_key(&self.books.step(step).id));
                self.must(strange.is_none(), "a plan has the steps that it lists", || format!("and {strange:?}"));
            }
        }
        for step in members {
            let record = self.books.step(step);
            let accounted = record.member || graft.closed.contains(&step) || graft.left.contains(&step);
            let settled = record.member || record.state.is_terminal();
            self.must(accounted && settled, "nothing is dropped silently", || format!("step {step}"));
        }
        for parent in forgotten {
            let current = self.books.current.get(&self.books.step(parent).id).copied();
            let is_another = current.is_some_and(|current| !self.books.same_work(current, parent));
            self.must(is_another, "results are forgotten only with their reason", || format!("step {parent}"));
        }
        if let Revision::Plan(plan) = &reply {
            self.books.answer = plan.answer.clone();
        } else if let Revision::Patch(patch) = &reply {
            let before = self.books.answer.take().filter(|before| !patch.drop.contains(before));
            self.books.answer = patch.answer.clone().or(before);
        }
    }

    fn graft(&mut self, graft: &Graft, draft: bool) {
        for message in self.books.graft(graft, draft) {
            self.wrong("a graft fits the graph", message);
        }
        self.touched.extend(&graft.closed);
        self.touched.extend((graft.first..).take(graft.added.len()));
        for &step in &graft.unreported {
            let is_new = !self.books.step(step).reported;
            self.must(is_new, "only what was never reported is reported later", || format!("step {step}"));
        }
    }

    /// The request is made again once its time has come, and nobody is to blame.
    fn put_off(&mut self, request: RequestNumber, error: &PlanError, retry_at: Timestamp) {
        self.answers_pending(request);
        self.cut_off = self.books.pending.take();
        self.put_off += 1;
        let times = self.put_off;
        self.must(times < 8, "a planner is asked so often and no more", || format!("{times} times"));
        let told = match &self.told {
            Some(Event::PlanReturned { reply, .. }) => match &**reply {
                Ok(PlanReply { revision: Revision::PutOff { error: said, pause_ms }, .. }) => {
                    said == error && self.now.plus_millis(*pause_ms) == retry_at
                }
                _ => false,
            },
            Some(_) => false,
            None => true,
        };
        self.must(told, "a planner is left alone for as long as it said", || format!("{error:?} until {retry_at}"));
        self.books.planner_closed(retry_at);
    }

    fn rejected(&mut self, request: RequestNumber, rejection: &Rejection) {
        self.answers_pending(request);
        let pending = self.books.pending.take();
        if let Some(Event::PlanReturned { reply, .. }) = &self.told {
            let reply = reply.clone();
            self.must(!rejection.offences.is_empty(), "a rejection says why", || format!("{reply:?}"));
            if let Ok(reply) = &*reply
                && let Verdict::Good(_) = judge(&self.books, &reply.revision)
                && !self.must_answer
            {
                let offences = &rejection.offences;
                self.wrong("a plan that can run is accepted", format!("{offences:?}: {reply:?}"));
            }
        }
        if rejection.offences.is_empty() {
            let is_resumed = matches!(self.told, Some(Event::Resumed { .. }) | None);
            self.must(is_resumed, "only a crash cuts a request off", || format!("request {request}"));
            self.cut_off = pending;
        } else {
            self.rejections += 1;
            for offence in &*rejection.offences {
                if let PlanError::BrokenOff { retry_after_ms: Some(pause_ms), .. } = offence {
                    self.books.planner_closed(self.now.plus_millis(*pause_ms));
                }
            }
            self.put_off = 0;
            let (rejections, cap) = (self.rejections, self.books.policy.max_corrections);
            let declined = rejection.offences.contains(&PlanError::Declined);
            self.must(
                rejection.given_up == (rejections > cap) || declined,
                "a planner that cannot do it is given up, not before",
                || format!("{rejections} rejections of {pending:?}: {rejection:?}"),
            );
        }
        let graft = Graft {
            first: self.books.steps.len() as StepNumber,
            closed: rejection.closed.clone(),
            left: rejection.left.clone(),
            ..Graft::default()
        };
        let not_drafts: Vec<StepNumber> = rejection
            .closed
            .iter()
            .chain(&rejection.left)
            .copied()
            .filter(|&step| {
                !self.books.step(step).draft
                    && !self.books.ancestors(step).into_iter().any(|a| self.books.step(a).draft)
            })
            .collect();
        self.must(not_drafts.is_empty(), "a rejected plan changes nothing", || format!("{not_drafts:?}"));
        self.graft(&graft, false);
    }

    fn drafted(&mut self, request: RequestNumber, graft: &Graft) {
        self.answers_pending(request);
        let is_one = graft.added.len() == 1 && graft.scope.is_none();
        self.must(is_one, "a streamed step is one step", || format!("{graft:?}"));
        let told_so = match &self.told {
            Some(Event::PlanStep { step, .. }) => graft.added.iter().all(|added| added.step == *step),
            Some(_) => false,
            None => true,
        };
        self.must(told_so, "only streamed steps are drafted", || format!("{graft:?}"));
        for added in &graft.added {
            let is_new = !self.books.current.contains_key(&added.step.id);
            self.must(is_new, "a draft has a new id", || format!("`{}`", added.step.id));
        }
        self.graft(graft, true);
        let edges: usize = self.books.children(None).map(|step| self.books.step(step).dependencies.len()).sum();
        let most = self.books.policy.limits.edges as usize;
        self.must(edges <= most, "drafts have no more dependencies than a plan may have", || format!("{edges}"));
    }

    fn expanded(&mut self, step: StepNumber, attempt: AttemptNumber, graft: &Graft, usage: Usage) {
        self.ends(step, attempt, usage);
        self.must(graft.scope == Some(step), "an expansion is its step's", || format!("{graft:?}"));
        let depth = self.books.ancestors(step).len() + 1;
        let most = self.books.policy.limits.depth as usize;
        self.must(depth <= most, "expansions nest to a limit", || format!("step {step} at {depth}"));
        for &child in &graft.joined {
            let before = self.books.step(child).parent;
            let is_same = before.is_some_and(|before| self.books.same_work(before, step));
            let forgotten = self.books.is_forgotten(child);
            self.must(is_same && !forgotten, "reused children belong to the same parent", || {
                format!("child {child} of {before:?} in {step}")
            });
        }
        self.books.set_state(step, State::Expanded);
        self.books.step_mut(step).was_expanded = true;
        self.graft(graft, false);
        if let Some(Event::AttemptReturned { result: Ok(Returned::Plan(plan)), .. }) = &self.told {
            let wanted: BTreeSet<_> =
                plan.steps.iter().map(|child| self.books.full_id(Some(step), &child.id)).collect();
            let got: BTreeSet<_> =
                self.books.children(Some(step)).map(|child| self.books.step(child).id.clone()).collect();
            self.must(wanted == got, "an expansion has the steps that it lists", || format!("{wanted:?}, {got:?}"));
        }
    }

    fn ready(&mut self, step: StepNumber) {
        let allowed = match self.books.step(step).state {
            State::Backoff(until) => until <= self.now,
            State::Expanded => self.books.is_done_inside(step) && self.books.wants_another_plan(step),
            State::Unknown => match &self.told {
                Some(Event::Decided { step: decided, decision: Decision::Retry }) => *decided == step,
                Some(_) => false,
                None => true,
            },
            _ => false,
        };
        let state = self.books.step(step).state.clone();
        self.must(allowed, "a step waits until its time has come", || format!("step {step} is {state:?}"));
        // Time decides nothing about an outcome that nobody knows, only a person does.
        self.books.step_mut(step).in_doubt &= state != State::Unknown;
        if state == State::Expanded {
            (self.books.step_mut(step).tries, self.books.step_mut(step).other_plans) =
                (0, self.books.step(step).other_plans + 1);
        }
        self.books.set_state(step, State::Open);
    }

    fn attempt_failed(&mut self, step: StepNumber, error: &StepError, retry_at: Timestamp) {
        let record = self.books.step(step);
        let retry = record.definition.retry.unwrap_or(self.books.policy.retry);
        let is_unsure = matches!(
            error.kind,
            StepErrorKind::Timeout | StepErrorKind::Interrupted | StepErrorKind::Stopped | StepErrorKind::Aborted
        );
        let must_ask = self.books.must_ask(&record.definition);
        self.books.step_mut(step).in_doubt |= is_unsure && must_ask;
        if matches!(error.kind, StepErrorKind::Interrupted | StepErrorKind::Aborted) {
            self.books.step_mut(step).interruptions += 1;
        } else if error.kind == StepErrorKind::Stopped {
            // Who stops a run is not counted against its steps. The record alone does not tell a stop before a resumption.
            let is_own_word = matches!(self.told, Some(Event::AttemptReturned { .. }));
            let is_stopped = self.books.phase == Phase::Stopping || self.is_used_up();
            self.must(!is_own_word || is_stopped, "only the run says that it is stopped", || format!("step {step}"));
        } else if error.kind == StepErrorKind::Deferred {
            // What is put off uses up no try, and comes back when it said.
            let pause = error.retry_after_ms.filter(|pause| *pause > 0).unwrap_or(retry.max_ms.max(1_000));
            let due = self.now.plus_millis(pause);
            self.must(retry_at == due, "what is put off comes back in time", || format!("step {step} at {retry_at}"));
        } else {
            let tries = self.books.step(step).tries + 1;
            self.books.step_mut(step).tries = tries;
            // A server that said when to come back is asked more patiently.
            let patient = if error.retry_after_ms.is_some() && retry.max_attempts > 1 { 8 } else { 1 };
            self.must(tries < retry.max_attempts.max(patient), "tries are capped", || {
                format!("{tries} of step {step}")
            });
            let most = retry.base_ms.saturating_mul(1 << (tries - 1).min(30)).min(retry.max_ms);
            let soonest = self.now.plus_millis(error.retry_after_ms.unwrap_or(0));
            let latest = soonest.plus_millis(most);
            self.must((soonest..=latest).contains(&retry_at), "back-off is bounded, Retry-After obeyed", || {
                format!("step {step} at {retry_at}, not {soonest} to {latest}")
            });
        }
        let interruptions = self.books.step(step).interruptions;
        let cap = self.books.policy.max_interruptions;
        self.must(interruptions < cap, "interruptions are capped", || format!("{interruptions} of step {step}"));
        self.books.set_state(step, State::Backoff(retry_at));
        self.close_gate(step, error);
    }

    /// A server asked to be left alone.
    fn close_gate(&mut self, step: StepNumber, error: &StepError) {
        if let Some(pause_ms) = error.retry_after_ms.filter(|pause_ms| *pause_ms > 0) {
            self.books.closed(step, self.now, pause_ms, error.kind == StepErrorKind::Deferred);
        }
    }

    fn skipped(&mut self, step: StepNumber, because: SkipReason, attempt: Option<AttemptNumber>) {
        match because {
            SkipReason::LeftOut if self.books.is_forking => {
                self.books.attempts.retain(|_, of| *of != step);
                self.books.step_mut(step).is_left_out = true;
                self.settle(step, State::SkippedItself);
            }
            SkipReason::LeftOut => self.wrong("only a fork leaves steps out", format!("step {step}")),
            SkipReason::Condition => {
                let told_so = match &self.told {
                    Some(Event::AttemptReturned { result: Ok(Returned::ConditionFalse), .. }) => true,
                    Some(_) => false,
                    None => true,
                };
                self.must(told_so && attempt.is_some(), "a condition was false", || format!("step {step}"));
                if let Some(attempt) = attempt {
                    self.ends(step, attempt, Usage::default());
                    self.books.no_calls += 1;
                }
                self.settle(step, State::SkippedItself);
            }
            SkipReason::Failed(cause) => {
                let failed = self.books.steps.get(cause as usize).is_some_and(|cause| cause.state == State::Failed);
                let above = self.is_above(cause, step);
                self.must(failed && above, "a skipped step names the failed ancestor", || {
                    format!("step {step} names {cause}: failed {failed}, ancestor {above}")
                });
                self.settle(step, State::SkippedFor(cause));
            }
        }
    }

    /// Whether `step` depends on `ancestor`, directly or not.
    fn is_above(&self, ancestor: StepNumber, step: StepNumber) -> bool {
        let mut seen = BTreeSet::new();
        let mut next = vec![step];
        while let Some(step) = next.pop() {
            for &before in &self.books.step(step).dependencies {
                if before == ancestor {
                    return true;
                }
                if before > ancestor && seen.insert(before) {
                    next.push(before);
                }
            }
        }
        false
    }

    fn finished(&mut self, outcome: &RunOutcome) {
        self.books.phase = Phase::Finished;
        self.check_outcome(outcome);
        let unsettled: Vec<StepNumber> = (0..self.books.steps.len() as StepNumber)
            .filter(|&step| !self.books.step(step).state.is_terminal())
            .collect();
        let answered = match &self.told {
            Some(Event::PlanReturned { reply, .. }) => {
                matches!(**reply, Ok(PlanReply { revision: Revision::Answer(_), .. }))
            }
            Some(_) => false,
            None => true,
        };
        self.must(unsettled.is_empty() || answered, "at the end every step has a terminal state", || {
            format!("{unsettled:?}")
        });
        for step in unsettled {
            self.books.set_state(step, State::Superseded);
        }
    }
}
