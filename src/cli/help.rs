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

fn exit_codes() -> String {
    let mut text = String::from("code  resumable  meaning\n");
    for code in ExitCode::ALL {
        let resumable = if code.is_resumable() { "yes" } else { "-" };
        text.push_str(&format!("{:>4}  {resumable:<9}  {}\n", code.code(), code.meaning()));
    }
    text
}

pub(crate) fn completions(args: &CompletionsArgs, console: &Console) -> Result<(), Failure> {
    let mut script = Vec::new();
    clap_complete::generate(args.shell, &mut Cli::command(), "plandag", &mut script);
    console.data(&String::from_utf8_lossy(&script))
}
