//! `plandag help` and `plandag completions`.

use clap::CommandFactory as _;
use plandag::report::ExitCode;

use super::args::{Cli, CompletionsArgs, HelpArgs};
use super::console::Console;
use super::failure::Failure;

pub(crate) fn help(args: &HelpArgs, console: &Console) -> Result<(), Failure> {
    let mut command = Cli::command();
    command.build();
    let text = match args.topic.as_deref() {
        None => command.render_long_help(),
        Some("exit-codes") => return console.data(&exit_codes()),
        Some(topic) => match command.find_subcommand_mut(topic) {
            Some(command) => command.render_long_help(),
            None => {
                return Err(Failure::usage("usage.arguments", format!("there is no command or topic `{topic}`"))
                    .help("`plandag help` lists the commands; the other topic is `exit-codes`"));
            }
        },
    };
    console.data(&text.to_string())
}

/// Below the exit codes.
const GOES_ON: &str = "
This is for runs that had begun, and whose record was kept. `plandag resume RUN` goes on with the same run; if its
planner gave no plan, it is asked again, as a new run. A run whose steps failed is over: `plandag retry RUN` runs what
failed again, as a new run that takes over the rest. Of runs that ended with 5 or 6, those that had a plan are retried.
";

fn exit_codes() -> String {
    let mut text = String::from("code  goes on with    meaning\n");
    for code in ExitCode::ALL {
        let goes_on_with = match code.goes_on_with() {
            [] => "-".to_owned(),
            commands => commands.join(" or "),
        };
        text.push_str(&format!("{:>4}  {goes_on_with:<14}  {}\n", code.code(), code.meaning()));
    }
    text + GOES_ON
}

pub(crate) fn completions(args: &CompletionsArgs, console: &Console) -> Result<(), Failure> {
    let mut script = Vec::new();
    clap_complete::generate(args.shell, &mut Cli::command(), "plandag", &mut script);
    console.data(&String::from_utf8_lossy(&script))
}
