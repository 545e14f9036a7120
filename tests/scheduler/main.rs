//! The scheduler, event by event: whole histories of named scenarios as golden files, and rules one by one.

mod drafts;
mod driver;
mod ends;
mod expansions;
mod histories;
mod launches;
mod patches;
mod pools;
mod rules;
mod scenarios;
