//! The command `plandag`. It uses the library as any other program does: nothing in it is private to the command.

mod cli;

fn main() -> std::process::ExitCode {
    cli::main().into()
}
