//! The arguments about language models.

use std::num::NonZeroU64;
use std::path::PathBuf;

use clap::builder::NonEmptyStringValueParser;
use clap::{Args, ValueEnum};
use plandag::Secrets;
use plandag::llm::{PlanTextFormat, Prompts};
use serde::{Deserialize, Serialize};

use crate::cli::args::TEMPLATE;

/// Which models to ask, and how.
#[derive(Args, Clone, Debug, Default)]
#[command(next_help_heading = "Language models")]
pub(crate) struct ModelArgs {
    /// Model that plans and does steps, such as gpt-4o-mini, anthropic::NAME or ollama::NAME [config: model]
    #[arg(long, value_name = "NAME", env = unless_empty("PLANDAG_MODEL"), hide_env_values = true, value_parser = NonEmptyStringValueParser::new())]
    pub(crate) model: Option<String>,
    /// Model that plans, if it is another one
    #[arg(long, value_name = "NAME", value_parser = NonEmptyStringValueParser::new())]
    pub(crate) planner_model: Option<String>,
    /// Model that does the steps which name no tool, if it is another one
    #[arg(long, value_name = "NAME", value_parser = NonEmptyStringValueParser::new())]
    pub(crate) step_model: Option<String>,
    /// Model that does the last step, which puts the answer together, if it is another one
    #[arg(long, value_name = "NAME", value_parser = NonEmptyStringValueParser::new())]
    pub(crate) answer_model: Option<String>,
    /// OpenAI-compatible server that has the models; it usually ends in /v1 [env: OPENAI_BASE_URL]
    #[arg(long, value_name = "URL", value_parser = base_url)]
    pub(crate) base_url: Option<String>,
    /// File with the key for the provider; its usual environment variable is looked at, too
    #[arg(long, value_name = "FILE")]
    pub(crate) api_key_file: Option<PathBuf>,
    /// No model, even if one is named: objectives are planned by rule and answered with quotations
    #[arg(long, conflicts_with_all = ["planner_model", "step_model", "answer_model"])]
    pub(crate) offline: bool,
    /// How much chance there is in answers, from 0 to 2
    #[arg(long, value_name = "T", value_parser = temperature)]
    pub(crate) temperature: Option<f64>,
    /// Form in which the model writes plans [default: lines]
    #[arg(long, value_name = "FORMAT")]
    pub(crate) plan_format: Option<PlanFormat>,
    /// Own text in the place of a built-in prompt (plandag prompts lists them); can be repeated
    #[arg(long = "prompt", value_name = "NAME=FILE", value_parser = prompt)]
    pub(crate) prompts: Vec<(String, PathBuf)>,
    /// Tools that a model may call while it does a step: none, all that only read, or names with commas between them
    /// [default: those of --files and of servers]
    #[arg(long, value_name = "TOOLS")]
    pub(crate) step_tools: Option<StepTools>,
    /// The model that was chosen for the run when it was started, if none was named.
    #[arg(skip)]
    pub(crate) chosen: Option<Chosen>,
}

/// A model that was chosen because none was named.
#[derive(Clone, Debug, Deserialize, Serialize)]
pub(crate) struct Chosen {
    pub(crate) name: String,
    /// Its server, if that was not named either.
    pub(crate) url: Option<String>,
}

impl ModelArgs {
    /// Whether a model is named that plans.
    pub(crate) fn names_a_planner(&self) -> bool {
        self.model.is_some() || self.planner_model.is_some()
    }
}

/// What a run may spend on models, and whether it is looked at again.
#[derive(Args, Clone, Debug, Default)]
#[command(next_help_heading = "Language models")]
pub(crate) struct SpendingArgs {
    /// Asks the planner, after the last step, whether something is missing
    #[arg(long)]
    pub(crate) review: bool,
    /// Most tokens, in and out; the run then stops with what is done
    #[arg(long, value_name = "N", value_parser = tokens)]
    pub(crate) max_tokens: Option<NonZeroU64>,
    /// Most money in US dollars; the run then stops with what is done
    #[arg(long, value_name = "USD", value_parser = usd)]
    pub(crate) max_usd: Option<f64>,
}

/// Says which models there are, what is missing, and tries one call.
#[derive(Args, Debug)]
#[command(
    help_template = TEMPLATE,
    before_help = "\
Examples:
  plandag doctor
  plandag doctor --model gpt-4o-mini
  plandag doctor --example > plandag.toml       a configuration file with all that it can say
  plandag doctor --journal                      is every run there as it was written?
"
)]
pub(crate) struct DoctorArgs {
    #[command(flatten)]
    pub(crate) model: ModelArgs,
    /// Prints a configuration file with all that a project's can say, and looks at nothing
    #[arg(long)]
    pub(crate) example: bool,
    /// Checks this journal, or the default one, from end to end; looks at nothing else
    #[arg(long, value_name = "FILE", num_args = 0..=1)]
    pub(crate) journal: Option<Option<PathBuf>>,
    /// The findings as JSON
    #[arg(long)]
    pub(crate) json: bool,
}

/// Prints what models are told; without a name, lists the prompts.
#[derive(Args, Debug)]
#[command(
    help_template = TEMPLATE,
    before_help = "\
Examples:
  plandag prompts
  plandag prompts planner > planner.md          then: plandag run ... --prompt planner=planner.md
"
)]
pub(crate) struct PromptsArgs {
    /// The prompt
    #[arg(value_name = "NAME")]
    pub(crate) name: Option<String>,
}

/// The form in which a model writes plans.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum PlanFormat {
    /// A line for each step: the shortest, so the soonest started
    Lines,
    /// JSON that follows a schema
    Json,
}

impl From<PlanFormat> for PlanTextFormat {
    fn from(format: PlanFormat) -> Self {
        match format {
            PlanFormat::Lines => Self::Lines,
            PlanFormat::Json => Self::Json,
        }
    }
}

/// The tools that a model may call while it does a step.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(from = "String")]
pub(crate) enum StepTools {
    /// Those that the run was given beside what every run has.
    #[default]
    Given,
    None,
    All,
    Named(Vec<String>),
}

impl From<String> for StepTools {
    fn from(text: String) -> Self {
        match text.trim() {
            "none" => Self::None,
            "all" => Self::All,
            names => Self::Named(
                names.split(',').map(|name| name.trim().to_owned()).filter(|name| !name.is_empty()).collect(),
            ),
        }
    }
}

/// The name of a variable. One that is empty counts as unset: where others set variables, that is how they unset one.
fn unless_empty(name: &'static str) -> Option<&'static str> {
    Some(name).filter(|name| !std::env::var_os(name).is_some_and(|value| value.is_empty()))
}

/// An address that anybody may see: arguments are in the list of processes, and kept with the run.
pub(crate) fn base_url(text: &str) -> Result<String, String> {
    match Secrets::in_url(text).is_empty() {
        true => Ok(text.to_owned()),
        false => {
            Err("it has a key or a password in it, which others could read: set OPENAI_BASE_URL instead".to_owned())
        }
    }
}

fn temperature(text: &str) -> Result<f64, String> {
    is_temperature(text.parse().map_err(|_| format!("`{text}` is not a number"))?)
}

pub(super) fn is_temperature(number: f64) -> Result<f64, String> {
    if (0.0..=2.0).contains(&number) { Ok(number) } else { Err("it has to be from 0 to 2".to_owned()) }
}

pub(crate) fn tokens(text: &str) -> Result<NonZeroU64, String> {
    text.parse().map_err(|_| format!("`{text}` is not a whole number of at least 1"))
}

pub(crate) fn usd(text: &str) -> Result<f64, String> {
    is_limit(text.trim_start_matches('$').parse().map_err(|_| format!("`{text}` is not an amount of dollars"))?)
}

pub(super) fn is_limit(amount: f64) -> Result<f64, String> {
    // A run counts in millionths.
    if amount.is_finite() && amount >= 0.000_001 {
        Ok(amount)
    } else {
        Err("it has to be at least 0.000001".to_owned())
    }
}

/// `NAME=FILE`, the name one of a prompt.
fn prompt(text: &str) -> Result<(String, PathBuf), String> {
    let (name, file) = text.split_once('=').ok_or("write NAME=FILE, for example planner=planner.md")?;
    if !Prompts::names().any(|known| known == name) {
        return Err(format!(
            "there is no prompt `{name}`; there are {}",
            Prompts::names().collect::<Vec<_>>().join(", ")
        ));
    }
    Ok((name.to_owned(), file.into()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tools_of_steps_are_words_or_names() {
        assert_eq!(StepTools::from("none".to_owned()), StepTools::None);
        assert_eq!(StepTools::from("all".to_owned()), StepTools::All);
        assert_eq!(
            StepTools::from("fetch, calculate,".to_owned()),
            StepTools::Named(vec!["fetch".into(), "calculate".into()])
        );
    }

    #[test]
    fn addresses_have_nothing_secret_in_them() {
        assert!(base_url("http://127.0.0.1:8080/v1").is_ok() && base_url("https://x/v1?api-version=2").is_ok());
        assert!(base_url("https://name:word@x/v1").is_err() && base_url("https://x/v1?api-key=k").is_err());
    }

    #[test]
    fn numbers_are_checked() {
        assert_eq!(temperature("0.5"), Ok(0.5));
        assert!(temperature("3").is_err() && temperature("warm").is_err() && temperature("NaN").is_err());
        assert_eq!(usd("$0.50"), Ok(0.5));
        assert!(
            usd("0").is_err()
                && usd("0.0000009").is_err()
                && usd("0.000001").is_ok()
                && usd("-1").is_err()
                && usd("inf").is_err()
        );
        assert!(prompt("planner=a.md").is_ok() && prompt("sonnet=a.md").is_err() && prompt("planner").is_err());
    }
}
