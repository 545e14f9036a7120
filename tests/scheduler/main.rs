//! The scheduler, event by event: whole histories of named scenarios as golden files, and rules one by one.

mod driver;
mod pools;
mod rules;
mod scenarios;
