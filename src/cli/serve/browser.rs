//! The browser of whoever is at this machine.

use std::io;

use webbrowser::{Browser, BrowserOptions};

/// Opens a page, if it has an address and there is somebody to see it.
pub(super) fn open(url: io::Result<String>) -> bool {
    let Ok(url) = url else { return false };
    let mut options = BrowserOptions::new();
    options.with_suppress_output(true);
    has_screen() && webbrowser::open_browser_with_options(Browser::Default, &url, &options).is_ok()
}

/// Without a screen there may be a browser for terminals, and that is where the command writes.
fn has_screen() -> bool {
    let has = |name: &str| std::env::var_os(name).is_some_and(|value| !value.is_empty());
    !cfg!(target_os = "linux") || ["BROWSER", "DISPLAY", "WAYLAND_DISPLAY", "WSL_DISTRO_NAME"].into_iter().any(has)
}
