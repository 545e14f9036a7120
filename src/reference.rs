//! `${step.path}`: found, checked and filled.
