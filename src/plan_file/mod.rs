//! Plans from files: JSON, and YAML with the feature `yaml`.
//!
//! A plan file is read strictly. An unknown field, a key that comes twice or a value of another type is an error, and
//! all such errors are reported at once, with places and suggestions, and together with what else is wrong with the
//! rest of the plan, where that can be read ([`PlanProblems::in_run`]). What is wrong with a plan beyond its shape is
//! found by [`Dag::check`](crate::Dag::check); [`PlanFile::locate`] says where in the file it is.
//!
//! ```
//! use plandag::{Dag, PlanFile, PlanFormat};
//!
//! let text = r#"{ "steps": [
//!     { "id": "first", "tool": "search" },
//!     { "id": "second", "tool": "search", "depends_on": ["frist"] }
//! ] }"#;
//! let file = PlanFile::parse("plan.json", text, PlanFormat::Json, PlanFile::MAX_BYTES)?;
//! let problems = Dag::of(&file.plan).map_err(|problems| file.locate(problems)).unwrap_err();
//! assert_eq!(
//!     problems.to_string(),
//!     "plan.json:3:56: error[plan.unknown_dep]: step `second` depends on `frist`, which is not in the plan; \
//!      did you mean `first` (line 2)?"
//! );
//! # Ok::<(), plandag::PlanFileError>(())
//! ```

mod json;
mod locate;
mod node;
mod salvage;
mod shape;
mod source;
#[cfg(feature = "yaml")]
mod yaml;

use std::fs::File;
use std::io::{self, Read};
use std::path::Path;
use std::sync::Arc;

use thiserror::Error;

use crate::error::PlanError;
use crate::plan::Plan;
use crate::strict::Object;

#[cfg(feature = "web")]
pub(crate) use json::part;
use node::Node;
use salvage::salvage;
use shape::Finding;
pub use source::{Place, PlanProblem, PlanProblems, PlanSource};

const BYTE_ORDER_MARK: char = '\u{feff}';

/// How a plan is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum PlanFormat {
    /// As JSON.
    Json,
    /// As YAML 1.2.
    #[cfg(feature = "yaml")]
    Yaml,
}

impl PlanFormat {
    /// The format that a file's name speaks of, if it speaks of one.
    pub fn of_path(path: &Path) -> Option<Self> {
        match path.extension()?.to_str()? {
            "json" => Some(Self::Json),
            #[cfg(feature = "yaml")]
            "yaml" | "yml" => Some(Self::Yaml),
            _ => None,
        }
    }

    /// The format that a text without a telling name is probably in.
    pub fn of_text(text: &str) -> Self {
        #[cfg(feature = "yaml")]
        if !text.trim_start().starts_with('{') {
            return Self::Yaml;
        }
        let _ = text;
        Self::Json
    }
}

/// A plan with the text it was read from.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct PlanFile {
    /// The plan.
    pub plan: Plan,
    /// The text.
    pub source: Arc<PlanSource>,
}

/// Why there is no plan in a file.
#[derive(Debug, Error)]
pub enum PlanFileError {
    /// The file cannot be read.
    #[error("cannot read the plan {name}: {source}")]
    Unreadable {
        /// The file.
        name: String,
        /// Why.
        source: io::Error,
    },
    /// What it holds is not a plan.
    #[error(transparent)]
    Invalid(#[from] PlanProblems),
}

impl PlanFile {
    /// Whether a text that may as well be words is meant as a plan: if it begins as JSON does, or is YAML with `steps`.
    /// What is no YAML at all is so, too, if one of its lines can only begin the list of steps.
    pub fn is_plan(text: &str) -> bool {
        let text = text.trim_start_matches(BYTE_ORDER_MARK);
        if text.trim_start().starts_with('{') {
            return true;
        }
        #[cfg(feature = "yaml")]
        return match yaml::read(text) {
            Ok(tree) => tree.get("steps").is_some(),
            Err(_) => text.lines().any(yaml::begins_steps),
        };
        #[cfg(not(feature = "yaml"))]
        false
    }

    /// How large a plan file may be unless the caller says otherwise, in bytes.
    pub const MAX_BYTES: u64 = 1 << 20;

    /// Reads a plan from a file of at most `max_bytes`. Its name decides the format, or else its beginning.
    ///
    /// # Errors
    ///
    /// The file cannot be read, or everything that keeps its text from being a plan.
    pub fn read(path: impl AsRef<Path>, max_bytes: u64) -> Result<Self, PlanFileError> {
        let path = path.as_ref();
        let name = path.display().to_string();
        let mut bytes = Vec::new();
        let read = File::open(path).and_then(|file| {
            let size = file.metadata()?.len();
            if size > max_bytes {
                return Ok(Some(size));
            }
            // A file may grow while it is read, and a pipe has no size: what is read is what counts.
            let read = file.take(max_bytes.saturating_add(1)).read_to_end(&mut bytes)? as u64;
            Ok((read > max_bytes).then_some(read))
        });
        match read {
            Err(source) => Err(PlanFileError::Unreadable { name, source }),
            Ok(Some(size)) => Err(too_large(&name, size, max_bytes)),
            Ok(None) => Self::parse_bytes(&name, bytes, PlanFormat::of_path(path), max_bytes),
        }
    }

    /// Reads a plan from text of at most `max_bytes`. `name` is what messages call it.
    ///
    /// # Errors
    ///
    /// Everything that keeps the text from being a plan.
    pub fn parse(
        name: &str,
        text: impl Into<String>,
        format: PlanFormat,
        max_bytes: u64,
    ) -> Result<Self, PlanFileError> {
        Self::parse_bytes(name, text.into().into_bytes(), Some(format), max_bytes)
    }

    /// Reads a plan from bytes of at most `max_bytes`, which should be UTF-8. Without a format, their beginning
    /// decides.
    ///
    /// # Errors
    ///
    /// Everything that keeps the bytes from being a plan.
    pub fn parse_bytes(
        name: &str,
        bytes: Vec<u8>,
        format: Option<PlanFormat>,
        max_bytes: u64,
    ) -> Result<Self, PlanFileError> {
        if bytes.len() as u64 > max_bytes {
            return Err(too_large(name, bytes.len() as u64, max_bytes));
        }
        let text = String::from_utf8(bytes).map_err(|error| not_utf8(name, &error))?;
        let format = format.unwrap_or_else(|| PlanFormat::of_text(&text));
        let source = Arc::new(PlanSource::new(name, text, format));
        match plan_of(&source) {
            Ok(plan) => Ok(Self { plan, source }),
            Err(findings) => {
                let rest = tree_of(&source).ok().as_ref().and_then(salvage);
                Err(PlanProblems::malformed(source, findings).with_rest(rest).into())
            }
        }
    }

    /// Says where in the file the problems of its plan are, and what can be done about them.
    pub fn locate(&self, problems: Vec<PlanError>) -> PlanProblems {
        let tree = tree_of(&self.source).ok();
        let located = locate::locate(&self.plan, tree.as_ref(), &self.source, problems);
        PlanProblems { source: Arc::clone(&self.source), problems: located, salvaged: None }
    }
}

fn plan_of(source: &PlanSource) -> Result<Plan, Vec<Finding>> {
    let text = source.text();
    if text.starts_with(BYTE_ORDER_MARK) {
        let mark = 0..BYTE_ORDER_MARK.len_utf8();
        let finding = Finding::new("the text begins with a byte order mark", mark);
        return Err(vec![finding.help("save it as UTF-8 without one")]);
    }
    match source.format() {
        PlanFormat::Json => serde_json::from_str::<Object<Plan>>(text).map(|plan| plan.0).map_err(|error| {
            let findings = json::read(text).map(|tree| shape::check(&tree)).unwrap_or_else(|findings| findings);
            if findings.is_empty() { vec![json::unreadable(text, &error)] } else { findings }
        }),
        #[cfg(feature = "yaml")]
        PlanFormat::Yaml => {
            let tree = yaml::read(text)?;
            let findings = shape::check(&tree);
            if !findings.is_empty() {
                return Err(findings);
            }
            let plan = serde_json::from_value::<Object<Plan>>(tree.into_value());
            plan.map(|plan| plan.0).map_err(|error| vec![Finding::new(error.to_string(), 0..0)])
        }
    }
}

fn tree_of(source: &PlanSource) -> Result<Node, Vec<Finding>> {
    match source.format() {
        PlanFormat::Json => json::read(source.text()),
        #[cfg(feature = "yaml")]
        PlanFormat::Yaml => yaml::read(source.text()),
    }
}

fn too_large(name: &str, size: u64, limit: u64) -> PlanFileError {
    let source = PlanSource::new(name, String::new(), PlanFormat::Json);
    let error = PlanError::TooLarge { what: "bytes of plan".to_owned(), count: size, limit };
    let problem = PlanProblem { error, places: Vec::new(), help: None };
    PlanProblems { source: Arc::new(source), problems: vec![problem], salvaged: None }.into()
}

fn not_utf8(name: &str, error: &std::string::FromUtf8Error) -> PlanFileError {
    let at = error.utf8_error().valid_up_to();
    let text = String::from_utf8_lossy(error.as_bytes()).into_owned();
    let source = Arc::new(PlanSource::new(name, text, PlanFormat::Json));
    let byte = error.as_bytes().get(at).copied().unwrap_or_default();
    let is_utf16 = matches!(error.as_bytes(), [0xff, 0xfe, ..] | [0xfe, 0xff, ..]);
    let encoding = if is_utf16 { "this is UTF-16" } else { "it may be in an older encoding" };
    let finding = Finding::new(format!("the byte {byte:#04x} is not UTF-8"), at..at)
        .help(format!("{encoding}; save it as UTF-8"));
    PlanProblems::malformed(source, vec![finding]).into()
}
