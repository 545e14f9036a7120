use std::sync::Arc;

use serde_json::{Value, json};

use super::fill::MAX_FILLED_BYTES;
use super::*;
use crate::error::StepErrorKind;

fn outputs(id: &str) -> Option<Arc<Value>> {
    let value = match id {
        "web" => json!({ "count": 2, "hits": [{ "text": "first" }, { "text": "second" }], "none": null, "ok": true }),
        "text" => json!("plain"),
        "sly" => json!("${web.count}"),
        "skipped" => Value::Null,
        "empty" => json!({}),
        "inputs" => json!({ "city": "Paris" }),
        "megabyte" => json!("x".repeat(MAX_FILLED_BYTES)),
        _ => return None,
    };
    Some(Arc::new(value))
}

fn filled(args: Value) -> Value {
    fill(&args, &outputs).unwrap()
}

fn message(args: Value) -> String {
    let error = fill(&args, &outputs).unwrap_err();
    assert_eq!(error.kind, StepErrorKind::BadReference);
    error.message
}

fn found(args: Value) -> Result<Vec<String>, String> {
    let step = Step::new("s", "t").args(args);
    Ok(scan(&step)?.into_iter().map(str::to_owned).collect())
}

#[test]
fn alone_is_typed_and_inside_text_is_text() {
    assert_eq!(filled(json!("${web.count}")), json!(2));
    assert_eq!(filled(json!({ "a": ["${web.hits.1}"] })), json!({ "a": [{ "text": "second" }] }));
    assert_eq!(filled(json!("${web.hits.0.text} of ${web.count}")), json!("first of 2"));
    assert_eq!(filled(json!("got ${web.hits.0}")), json!(r#"got {"text":"first"}"#));
    assert_eq!(filled(json!("${text}${text}")), json!("plainplain"));
    assert_eq!(filled(json!(" ${web.ok}")), json!(" true"));
    assert_eq!(filled(json!("to ${inputs.city}")), json!("to Paris"));
}

#[test]
fn dollars_that_begin_no_reference_are_left_alone() {
    for plain in ["$", "$$", "$5", "{a}", "a$b", "}", "cost: 5$"] {
        assert_eq!(filled(json!(plain)), json!(plain));
        assert!(!has_references(&json!(plain)));
    }
    assert_eq!(filled(json!("$${web}")), json!("${web}"));
    assert_eq!(filled(json!("$$${web}")), json!("$${web}"));
    assert_eq!(filled(json!("é$${a} ${text}é")), json!("é${a} plainé"));
    assert!(has_references(&json!(["$${web}"])), "an escape is undone by filling");
}

#[test]
fn keys_are_not_looked_at_and_values_not_again() {
    assert_eq!(filled(json!({ "${web}": "${sly}" })), json!({ "${web}": "${web.count}" }));
    assert_eq!(filled(json!("<${sly}>")), json!("<${web.count}>"));
    assert_eq!(found(json!({ "${web}": 1 })).unwrap(), Vec::<String>::new());
}

#[test]
fn a_path_into_null_is_null() {
    assert_eq!(filled(json!("${skipped.a.0}")), Value::Null);
    assert_eq!(filled(json!("${web.none.deeper}")), Value::Null);
    assert_eq!(filled(json!("[${skipped}]")), json!("[null]"));
}

#[test]
fn a_path_that_is_not_there_says_what_is() {
    assert_eq!(message(json!("${web.hit}")), "`${web.hit}`: `web` has no `hit`; it has `count`, `hits`, `none`, `ok`");
    assert_eq!(message(json!("${web.hits.2}")), "`${web.hits.2}`: `web.hits` is a list of 2, so has no `2`");
    assert_eq!(message(json!("${web.hits.+1}")), "`${web.hits.+1}`: `web.hits` is a list of 2, so has no `+1`");
    assert_eq!(message(json!("${text.a}")), "`${text.a}`: `text` is text, so has no `a`");
    assert_eq!(message(json!("${empty.a}")), "`${empty.a}`: `empty` is an empty object, so has no `a`");
    assert_eq!(message(json!("${web.ok.a}")), "`${web.ok.a}`: `web.ok` is true, so has no `a`");
    assert_eq!(message(json!("${inputs.town}")), "`${inputs.town}`: `inputs` has no `town`; it has `city`");
    assert_eq!(message(json!("${nobody}")), "`${nobody}`: there is no output of `nobody`");
}

#[test]
fn references_are_found_once_each_in_order() {
    let args = json!({ "a": "${x.1} and ${y}", "b": ["${x}", { "c": "${inputs.city} $${z}" }], "d": "${inputs}" });
    let step = Step::new("s", "t").args(args).when("${w.ok} != false");
    assert_eq!(scan(&step).unwrap(), ["x", "y", "w"]);
}

#[test]
fn what_cannot_be_read_is_said() {
    for (text, problem) in [
        ("${", "`${` is not closed by a `}`; write `$${` for a literal `${`"),
        ("${a. + ${b}", "`${a. + ` is not closed by a `}` before the next `${`"),
        ("${a", "`${a` is not closed by a `}`; write `$${` for a literal `${`"),
        ("${}", "`${}` does not begin with a step id; write `$${` for a literal `${`"),
        ("${HOME:-x}", "`${HOME:-x}` does not begin with a step id; write `$${` for a literal `${`"),
        ("${ a }", "`${ a }` does not begin with a step id; write `$${` for a literal `${`"),
        ("${.a}", "`${.a}` does not begin with a step id; write `$${` for a literal `${`"),
        ("${${a}}", "`${${a}` does not begin with a step id; write `$${` for a literal `${`"),
        ("${a.}", "`${a.}` has an empty part in its path"),
        ("${a..b}", "`${a..b}` has an empty part in its path"),
    ] {
        assert_eq!(found(json!(text)).unwrap_err(), problem);
    }
    let longest = "a/".repeat(2 * StepId::MAX_BYTES);
    assert_eq!(
        found(json!(format!("${{{longest}.x}}"))).unwrap(),
        std::slice::from_ref(&longest),
        "a child of a child of a child"
    );
    assert!(found(json!(format!("${{{longest}a}}"))).unwrap_err().contains("does not begin with a step id"));
    let long = found(json!(format!("${{{}", "é".repeat(100_000)))).unwrap_err();
    assert!(long.len() < 300, "{long}");
}

#[test]
fn conditions() {
    for (when, holds) in [
        ("${web.ok}", true),
        (" ${web.hits} ", true),
        ("${skipped}", false),
        ("${skipped.ok}", false),
        ("${web.count} == 2", true),
        ("${web.count}==2.0", true),
        ("${web.count} != 2", false),
        ("${web.none} == null", true),
        (r#"${text} == "plain""#, true),
        (r#"${text} != "${text}""#, true),
        (r#"${web.hits.0} == {"text": "first"}"#, true),
    ] {
        assert_eq!(condition(when, &outputs), Ok(holds), "{when}");
    }
    for nothing in [json!(null), json!(false), json!(0), json!(-0.0), json!(""), json!([]), json!({})] {
        assert_eq!(condition("${a}", &|_| Some(Arc::new(nothing.clone()))), Ok(false), "{nothing}");
    }
    for something in [json!(true), json!(1), json!("false"), json!([0]), json!({ "a": null })] {
        assert_eq!(condition("${a}", &|_| Some(Arc::new(something.clone()))), Ok(true), "{something}");
    }
    // Whole numbers are compared as such, also where a fraction could not tell them apart.
    let large = |_: &str| Some(Arc::new(json!(9_007_199_254_740_993_u64)));
    assert_eq!(condition("${a} == 9007199254740993", &large), Ok(true));
    assert_eq!(condition("${a} == 9007199254740992", &large), Ok(false));
    let error = condition("${web.okay}", &outputs).unwrap_err();
    assert_eq!(error.kind, StepErrorKind::BadReference);
}

#[test]
fn conditions_that_cannot_be_read() {
    for (when, problem) in [
        ("", "the condition `` does not begin with a `${...}`"),
        ("web.ok", "the condition `web.ok` does not begin with a `${...}`"),
        ("$${a}", "the condition `$${a}` does not begin with a `${...}`"),
        ("${a} == yes", "a condition compares with a JSON literal, which `yes` is not; text needs double quotes"),
        ("${a} ==", "a condition compares with a JSON literal, which `` is not; text needs double quotes"),
        ("${a} > 3", "after its reference a condition goes on with `==`, `!=` or not at all, not `> 3`"),
    ] {
        assert_eq!(scan(&Step::new("s", "t").when(when)).unwrap_err(), problem);
    }
}

#[test]
fn what_is_filled_in_is_bounded() {
    assert!(fill(&json!("${megabyte}"), &outputs).is_ok());
    for too_much in [json!("${megabyte}${text}"), json!(["${megabyte}", "${text}"])] {
        assert_eq!(fill(&too_much, &outputs).unwrap_err().kind, StepErrorKind::BadReference);
    }
    // A field is counted as its name, its value, and a little for what is around them.
    let object = |bytes: usize| json!({ "ten bytes.": "x".repeat(bytes) });
    let most = MAX_FILLED_BYTES - "{}      ".len() - "ten bytes.".len() - "\"\":,".len();
    for (bytes, fits) in [(most, true), (most + 1, false)] {
        let filled = fill(&json!("${a}"), &|_| Some(Arc::new(object(bytes))));
        assert_eq!(filled.is_ok(), fits, "{bytes}");
    }
    // Each step hands on its input twice. The bomb has to stop growing at the bound, not at the end of the memory.
    let mut value = Arc::new(json!("0123456789abcdef"));
    let mut refused = 0;
    for _ in 0..64 {
        match fill(&json!({ "left": "${a}", "right": "${a}" }), &|_| Some(value.clone())) {
            Ok(doubled) => value = Arc::new(doubled),
            Err(_) => refused += 1,
        }
    }
    assert!(refused > 40, "{refused}");
    let mut value = Arc::new(json!(0));
    let error = loop {
        match fill(&json!(["${a}"]), &|_| Some(value.clone())) {
            Ok(deeper) => value = Arc::new(deeper),
            Err(error) => break error,
        }
    };
    assert_eq!(error.message, "the arguments with their references filled nest deeper than 100");
}

#[test]
fn deep_arguments_are_an_error() {
    for around in [|value| json!([value]), |value| json!({ "within": value })] as [fn(Value) -> Value; 2] {
        let deepest = (0..MAX_DEPTH).fold(json!("${web.count}"), |value, _| around(value));
        assert_eq!(found(deepest.clone()).unwrap(), ["web"]);
        assert_eq!(filled(deepest.clone()).to_string(), deepest.to_string().replace(r#""${web.count}""#, "2"));
        for (depth, fits) in [(MAX_DEPTH - 1, true), (MAX_DEPTH, false)] {
            let value = Arc::new((0..depth).fold(json!(0), |value, _| around(value)));
            assert_eq!(fill(&around(json!("${a}")), &|_| Some(value.clone())).is_ok(), fits, "{depth}");
        }
        // As deep, with nothing in it.
        let empty = (0..MAX_DEPTH).fold(json!([]), |value, _| around(value));
        assert_eq!(found(empty.clone()).unwrap_err(), "the arguments nest deeper than 100");
        assert_eq!(fill(&empty, &outputs).unwrap_err().kind, StepErrorKind::BadReference);
        let deeper = around(deepest);
        assert_eq!(found(deeper.clone()).unwrap_err(), "the arguments nest deeper than 100");
        assert!(has_references(&deeper), "nobody knows, so it is looked at again when it is filled");
        assert_eq!(fill(&deeper, &outputs).unwrap_err().kind, StepErrorKind::BadReference);
    }
    let mut args = json!("${a}");
    for _ in 0..1_000 {
        args = Value::Array(vec![args]);
    }
    assert_eq!(found(args.clone()).unwrap_err(), "the arguments nest deeper than 100");
    assert_eq!(fill(&args, &outputs).unwrap_err().kind, StepErrorKind::BadReference);
    // Dropping a value recurses: take it apart.
    while let Value::Array(mut items) = args {
        args = items.pop().unwrap();
    }
}
