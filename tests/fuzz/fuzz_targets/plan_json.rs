//! Plans in JSON: read or refused, with places that are in the text.
#![no_main]

use libfuzzer_sys::fuzz_target;
use plandag::{Dag, PlanFile, PlanFileError, PlanFormat};

fuzz_target!(|bytes: &[u8]| {
    match PlanFile::parse_bytes("plan.json", bytes.to_vec(), Some(PlanFormat::Json), PlanFile::MAX_BYTES) {
        Ok(file) => {
            // What was read is the same once it is written and read again.
            let text = serde_json::to_string(&file.plan).expect("a plan is JSON");
            let again = PlanFile::parse("again", text, PlanFormat::Json, u64::MAX).expect("our own text");
            assert_eq!(again.plan, file.plan);
            if let Err(problems) = Dag::of(&file.plan) {
                assert!(!file.locate(problems).to_string().is_empty());
            }
        }
        Err(PlanFileError::Invalid(problems)) => {
            for place in problems.problems.iter().flat_map(|problem| &problem.places) {
                assert!(problems.source.text().get(place.span.clone()).is_some());
            }
        }
        Err(error) => panic!("{error}"),
    }
});
