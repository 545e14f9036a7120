//! `plandag serve` and `plandag open`: the runs of a journal as live pages, and over HTTP.

mod browser;
mod files;
mod launch;
mod options;
mod page;

use std::path::PathBuf;
use std::sync::Arc;

use clap::Args;
use futures::StreamExt as _;
use futures::channel::oneshot;
use futures::future::{self, Either};
use plandag::counted;
use plandag::journal::{Journal as _, SqliteJournal};
use plandag::report::ExitCode;
use plandag::web::{Bound, Server};
use serde_json::json;

use super::args::{LimitArgs, Settings, SizeArgs, TEMPLATE};
use super::console::Console;
use super::failure::Failure;
use super::history::{JournalArgs, Survives, find_run, journal_failure, open_journal};
use super::model::args::{ModelArgs, SpendingArgs};
use super::run::{self, Equipment};
use super::signals::{self, Signal};
use super::style::{self, paint};
use launch::{Children, Commands};

pub(crate) use page::RunPage;

/// Where pages are unless said otherwise.
const PORT: u16 = 7420;

/// Only this machine reaches it.
const LOOPBACK: &str = "127.0.0.1";

/// Shows all runs of the journal as live pages, and starts new ones from there or over HTTP.
#[derive(Args, Debug)]
#[command(
    help_template = TEMPLATE,
    before_help = "\
Examples:
  plandag serve
  plandag serve --open --files docs --model gpt-4o-mini
  plandag serve --port 0 --json                 any free port, for scripts
",
    after_help = "Runs that are started from a page or over HTTP may do what the options above say, and nothing else;\n\
                  retried and forked runs what they could before. Each has a process of its own. Ctrl-C stops them in\n\
                  an orderly way, and the server with them; they can be resumed."
)]
pub(crate) struct ServeArgs {
    /// Port to serve at; 0: any that is free
    #[arg(long, value_name = "N", default_value_t = PORT)]
    port: u16,
    /// Address to serve at; anything but the loopback address lets other machines in, without encryption
    #[arg(long, value_name = "ADDRESS", default_value = LOOPBACK)]
    host: String,
    /// Opens the page in a browser
    #[arg(long)]
    open: bool,
    #[command(flatten)]
    pub(crate) settings: Settings,
    #[command(flatten)]
    model: ModelArgs,
    #[command(flatten)]
    spending: SpendingArgs,
    #[command(flatten)]
    limits: LimitArgs,
    /// The journal [default: plandag/runs.db in the XDG state directory]
    #[arg(long, value_name = "FILE", help_heading = "Journal")]
    journal: Option<PathBuf>,
    /// What a write must survive before a run goes on
    #[arg(long, value_name = "WHAT", default_value = "auto", help_heading = "Journal")]
    durability: Survives,
    /// Where it serves, and errors, as JSON on standard output
    #[arg(long)]
    pub(crate) json: bool,
}

/// Opens the page of a run in a browser, and serves it until Ctrl-C.
#[derive(Args, Debug)]
#[command(help_template = TEMPLATE, before_help = "Examples:\n  plandag open 7f3k\n  plandag open               the newest run\n")]
pub(crate) struct OpenArgs {
    /// The run, or the beginning of its name [default: the newest]
    #[arg(value_name = "RUN")]
    run: Option<String>,
    /// Port to serve at [default: any that is free]
    #[arg(long, value_name = "N", default_value_t = 0, hide_default_value = true)]
    port: u16,
    #[command(flatten)]
    journal: JournalArgs,
}

pub(crate) fn serve(args: &ServeArgs, console: &Console) -> Result<ExitCode, Failure> {
    let options = options::shared_with_run();
    // What a run would stumble over is better known now, and what runs may do is told before there is one.
    let Equipment { toolbox, .. } = Equipment::of(&options::run_args(&options)?, true, console)?;
    let may = toolbox.render();
    drop(toolbox);
    let journal = open_journal(args.journal.as_deref(), args.durability)?;
    let inputs = args.settings.inputs.iter().cloned().collect();
    let commands = Commands::new(journal.path(), options::without_inputs(options), inputs)?;
    let serving = Serving {
        host: &args.host,
        port: args.port,
        path: "/",
        open: args.open,
        json: args.json,
        size: args.settings.size,
        may,
    };
    serving.run(journal, commands, console)
}

pub(crate) fn open(args: &OpenArgs, console: &Console) -> Result<ExitCode, Failure> {
    let journal = args.journal.open(Survives::Auto)?;
    let found = run::runtime()?.block_on(async {
        match &args.run {
            Some(name) => find_run(&*journal, name).await,
            None => journal.runs().await.map_err(journal_failure)?.into_iter().next().ok_or_else(|| {
                Failure::usage("journal.empty", "no run was kept yet").help("start one: plandag run plan.json")
            }),
        }
    })?;
    let commands = Commands::new(journal.path(), Vec::new(), Default::default())?;
    let (path, size) = (format!("/runs/{}", found.run), SizeArgs::default());
    // A run that is over needs nothing of what a new one would.
    let may = Equipment::of(&options::run_args(&[])?, true, console).map_or_else(
        |failure| format!(" new runs cannot be started from here: {}", failure.brief()),
        |equipment| equipment.toolbox.render(),
    );
    let serving = Serving { host: LOOPBACK, port: args.port, path: &path, open: true, json: false, size, may };
    serving.run(journal, commands, console)
}

/// How something is served.
struct Serving<'a> {
    host: &'a str,
    port: u16,
    /// The page to begin with.
    path: &'a str,
    open: bool,
    json: bool,
    /// How large plans may be that are sent.
    size: SizeArgs,
    /// What runs may do that are started here.
    may: String,
}

impl Serving<'_> {
    fn run(&self, journal: Arc<SqliteJournal>, commands: Commands, console: &Console) -> Result<ExitCode, Failure> {
        let children = commands.children();
        let may = anstream::adapter::strip_str(&self.may).to_string();
        let place = journal.path().display().to_string();
        let server = Server::new(journal).launcher(commands, may).max_plan_bytes(self.size.bytes());
        let server = server.max_connections(files::max_connections());
        let runtime = run::runtime()?;
        let ended = runtime.block_on(async {
            let bound = bind(server, self.host, self.port).await?;
            let signals = signals::listen().map_err(run::no_signals)?;
            self.announce(&bound, &place, console)?;
            Ok(until_signal(bound, signals, &children, console).await)
        });
        runtime.shutdown_background();
        ended.map(Signal::exit)
    }

    /// Says where it serves.
    fn announce(&self, bound: &Bound, place: &str, console: &Console) -> Result<(), Failure> {
        let url = bound.url(self.path);
        if self.json {
            let address = bound.address().to_string();
            // Who asked for JSON and does not read it is not served any worse.
            let _ = console
                .json(&json!({ "v": 1, "ev": "serving", "url": url, "address": address, "token": bound.token() }));
        } else {
            console.data(&format!("{url}\n"))?;
        }
        console.say(&format!(" {}{place}", paint(style::FAINT, "journal   ")));
        console.say(&self.may);
        if !bound.address().ip().is_loopback() {
            console.complain(&format!(
                " {} other machines reach this address: whoever has the token can do all of the above, and what is sent is not encrypted",
                paint(style::RETRY, "!")
            ));
        }
        if self.open && !browser::open(bound.url_once(self.path)) {
            console.say(" there is no browser to open; the address above is for one");
        }
        console.say(" Ctrl-C ends it");
        Ok(())
    }
}

/// Takes the port.
async fn bind(server: Server, host: &str, port: u16) -> Result<Bound, Failure> {
    server.bind(host, port).await.map_err(|error| match error.kind() {
        std::io::ErrorKind::AddrInUse => {
            Failure::usage("serve.port_in_use", format!("port {port} of {host} is in use by another program"))
                .help("take another: --port N, or any that is free: --port 0")
                .help("it may be a plandag serve that runs already: look for its address in the terminal it runs in")
        }
        std::io::ErrorKind::PermissionDenied => {
            Failure::usage("serve.address", format!("port {port} of {host} cannot be used: {error}"))
                .help("ports below 1024 are the system's: --port N takes another")
        }
        _ => Failure::usage("serve.address", format!("nothing can be served at {host}, port {port}: {error}"))
            .help("name an address of this machine: --host ADDRESS"),
    })
}

/// Serves until there is a signal, then until the runs that were started from here have stopped.
async fn until_signal(
    bound: Bound,
    mut signals: impl futures::Stream<Item = Signal> + Unpin,
    children: &Children,
    console: &Console,
) -> Signal {
    let (stop, stopped) = oneshot::channel::<()>();
    let serving = tokio::spawn(bound.run(async {
        let _ = stopped.await;
    }));
    // The stream of signals does not end.
    let first = signals.next().await.unwrap_or(Signal::Interrupt);
    let mut is_now = first == Signal::Quit;
    let running = children.stop(is_now);
    if running > 0 {
        let runs = counted(running, "run");
        let stopping = match is_now {
            true => "stopping now".to_owned(),
            false => format!("giving {runs} time to stop; press again to stop now"),
        };
        console.complain(&format!(" {} {stopping}", paint(style::RETRY, "■")));
    }
    drop(stop);
    loop {
        match future::select(Box::pin(children.gone()), signals.next()).await {
            Either::Left(_) => break,
            Either::Right(_) if !is_now => {
                is_now = true;
                children.stop(true);
                console.complain(&format!(" {} stopping now", paint(style::RETRY, "■")));
            }
            Either::Right((Some(Signal::Quit), _)) => {}
            Either::Right(_) => std::process::exit(first.exit().code().into()),
        }
    }
    // It ends by itself, soon; what goes wrong in it then is of no use to anybody.
    let _ = serving.await;
    first
}
