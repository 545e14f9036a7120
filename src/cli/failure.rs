//! Why the command could not do what was asked: what is shown to people and to programs.

use plandag::report::ExitCode;
use plandag::web::Problem;
use plandag::{PlanError, PlanProblem, PlanProblems, RunStart};
use serde_json::{Value, json};

use super::console::Console;
use super::diagnostic;
use super::ndjson::{Fields, Line};
use super::plan_place::PlanPlace;
use super::style;
use super::text;

/// An error with everything that its reader needs: what happened, what it means, what to do.
#[derive(Clone, Debug)]
pub(crate) struct Failure {
    /// As `plandag explain` knows it.
    code: &'static str,
    exit: ExitCode,
    message: String,
    notes: Vec<String>,
    help: Vec<String>,
    /// What is wrong with a plan, if that is it.
    problems: Option<Box<PlanProblems>>,
    /// Where the plan is that this is about, if it is about one of several.
    place: Option<Box<PlanPlace>>,
    /// Whether this ended before any step started.
    nothing_run: bool,
}

impl Failure {
    /// An error before anything was run.
    pub(crate) fn new(code: &'static str, exit: ExitCode, message: impl Into<String>) -> Self {
        Self {
            code,
            exit,
            message: message.into(),
            notes: Vec::new(),
            help: Vec::new(),
            problems: None,
            place: None,
            nothing_run: true,
        }
    }

    /// A plan that cannot be run.
    pub(crate) fn plan(problems: PlanProblems, exit: ExitCode) -> Self {
        let (code, message) = (problems.code(), problems.message());
        let is_too_large = problems.problems.iter().any(|problem| matches!(problem.error, PlanError::TooLarge { .. }));
        let failure = Self { problems: Some(Box::new(problems)), ..Self::new(code, exit, message) };
        match is_too_large {
            true => failure.help("if you trust it, let it be larger: --max-steps N"),
            false => failure,
        }
    }

    /// It is about this plan of several.
    pub(crate) fn of_plan(mut self, place: PlanPlace) -> Self {
        self.place = Some(Box::new(place));
        self
    }

    /// If this is about a plan: with everything that is wrong with it for a run that starts like this.
    pub(crate) fn in_run(mut self, start: &RunStart) -> Self {
        match self.problems.take() {
            Some(problems) => {
                Self { notes: self.notes, help: self.help, ..Self::plan(problems.in_run(start), self.exit) }
            }
            None => self,
        }
    }

    /// The arguments make no sense.
    pub(crate) fn usage(code: &'static str, message: impl Into<String>) -> Self {
        Self::new(code, ExitCode::Usage, message)
    }

    /// Adds a line about what happened.
    pub(crate) fn note(mut self, note: impl Into<String>) -> Self {
        self.notes.push(note.into());
        self
    }

    /// Adds something to do about it.
    pub(crate) fn help(mut self, help: impl Into<String>) -> Self {
        self.help.push(help.into());
        self
    }

    /// Steps had started already.
    pub(crate) fn after_start(mut self) -> Self {
        self.nothing_run = false;
        self
    }

    /// What can be done about it.
    pub(crate) fn helps(&self) -> &[String] {
        &self.help
    }

    pub(crate) fn exit(&self) -> ExitCode {
        self.exit
    }
}

impl Failure {
    /// What happened, in one line.
    pub(crate) fn brief(&self) -> String {
        let what = self.what();
        self.place.as_ref().map_or_else(|| what.clone(), |place| place.named(&what))
    }

    fn what(&self) -> String {
        match &self.problems {
            Some(problems) => {
                let errors: Vec<String> = problems.problems.iter().map(|problem| problem.error.to_string()).collect();
                errors.join("; ")
            }
            None => self.message.clone(),
        }
    }

    /// The row about it among those of other plans.
    pub(crate) fn row(&self) -> Value {
        let what = self.what();
        self.place.as_ref().map_or_else(|| json!({ "v": 1, "error": what }), |place| place.row(&what))
    }

    /// For people: what happened, what it means, what to do.
    pub(crate) fn render(&self) -> String {
        let mut rendered = match &self.problems {
            Some(problems) => diagnostic::render(problems),
            None => format!(
                "{}: {}",
                style::paint(style::ERROR, &format!("error[{}]", self.code)),
                style::paint(style::STRONG, &text::line(&self.brief())),
            ),
        };
        for line in self.notes.iter().flat_map(|note| note.lines()) {
            rendered.push_str(&format!("\n  {}", text::line(line)));
        }
        for help in &self.help {
            rendered.push_str(&format!("\n  {}: {}", style::paint(style::HELP, "help"), text::line(help)));
        }
        let outcome = if self.nothing_run { "nothing was run. " } else { "" };
        let outcome = format!("{outcome}(exit {})", self.exit.code());
        rendered + "\n  " + &style::paint(style::FAINT, &outcome)
    }

    /// For programs: the same.
    pub(crate) fn fields(&self) -> Fields {
        let mut fields = Fields::from([
            ("code", json!(self.code)),
            ("message", json!(self.message)),
            ("notes", json!(self.notes)),
            ("help", json!(self.help)),
        ]);
        if let Some(problems) = &self.problems {
            fields.insert("problems", problems_json(problems));
        }
        if let Some(PlanPlace { file, line, id }) = self.place.as_deref() {
            fields.extend([("file", json!(file)), ("line", json!(line)), ("id", json!(id))]);
        }
        fields.insert("exit", json!(self.exit.code()));
        fields
    }

    /// For who asked over HTTP.
    pub(crate) fn to_problem(&self) -> Problem {
        let problem = Problem::new(self.code, self.message.clone());
        let problem = self.notes.iter().fold(problem, Problem::note);
        self.help.iter().fold(problem, Problem::help)
    }

    /// Tells it on the stream where it is read.
    pub(crate) fn report(&self, console: &Console, json: bool) {
        if json {
            // Who asked for JSON and does not read it does not read this either.
            let _ = console.json(&Line::error(self.fields()));
        } else {
            console.complain(&self.render());
        }
    }
}

fn problems_json(problems: &PlanProblems) -> Value {
    let problem = |problem: &PlanProblem| {
        let mut told = problem.to_json();
        told["file"] = json!(problems.source.name());
        told
    };
    problems.problems.iter().map(problem).collect()
}
