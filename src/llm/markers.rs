//! The marks by which chat templates part turns, roles and tool calls. A server that meets one in a text takes it for what
//! it is, so none of them may reach a model as data.

use std::borrow::Cow;

use serde_json::Value;

/// The longest name of a mark.
const LONGEST: usize = 40;

/// Of Mistral, and GLM, in square brackets. Words that people put there as well, such as `[ARGS]`, are not among them: they
/// do nothing without one that is.
const IN_BRACKETS: &[&str] = &[
    "AVAILABLE_TOOLS",
    "CALL_ID",
    "IMG",
    "IMG_BREAK",
    "IMG_END",
    "INST",
    "MODEL_SETTINGS",
    "SYSTEM_PROMPT",
    "THINK",
    "TOOL_CALLS",
    "TOOL_CONTENT",
    "TOOL_RESULTS",
    "gMASK",
    "sMASK",
];

/// Of Llama, Gemma, Qwen and Hermes, Command R, Seed, Ling and MiniMax, between `<` and `>`.
const IN_ANGLES: &[&str] = &[
    "BOS_TOKEN",
    "EOS_TOKEN",
    "bos",
    "end_of_image",
    "end_of_turn",
    "eos",
    "minimax:tool_call",
    "role",
    "s",
    "seed:bos",
    "seed:eos",
    "seed:think",
    "seed:tool_call",
    "start_of_image",
    "start_of_turn",
    "think",
    "tool_call",
    "tool_response",
];

/// Of MiniMax, which are like no other.
const ODD: &[(&str, &str)] = &[("]~!b[", "b"), ("]~b]", "b"), ("[e~[", "e")];

/// `text` with the name of every mark between parentheses, such as `(im_end)`; anything else is as it was.
pub(super) fn without_markers(text: &str) -> Cow<'_, str> {
    let mut plain = String::new();
    let (mut begin, mut at) = (0, 0);
    while let Some(next) = text[at..].find(['<', '[', ']']) {
        at += next;
        match marker(&text[at..]) {
            Some((name, rest)) => {
                plain.push_str(&text[begin..at]);
                plain.extend(["(", name, ")"]);
                at = text.len() - rest.len();
                begin = at;
            }
            None => at += 1,
        }
    }
    match begin {
        0 => Cow::Borrowed(text),
        _ => Cow::Owned(plain + &text[begin..]),
    }
}

/// As [`without_markers`], in every text of a value.
pub(super) fn value_without_markers(value: Value) -> Value {
    let text = value.to_string();
    match without_markers(&text) {
        Cow::Borrowed(_) => value,
        // No name has a character that would have to be escaped.
        Cow::Owned(plain) => serde_json::from_str(&plain).unwrap_or_default(),
    }
}

/// The name in the mark that `text` begins with, and what stands behind the mark.
fn marker(text: &str) -> Option<(&str, &str)> {
    let odd = ODD.iter().find_map(|(odd, name)| Some((*name, text.strip_prefix(odd)?)));
    odd.or_else(|| match text.strip_prefix('[') {
        Some(inner) => in_brackets(inner),
        None => in_angles(text.strip_prefix('<')?),
    })
}

fn in_brackets(inner: &str) -> Option<(&str, &str)> {
    // `[|system|]` of EXAONE.
    if let Some(inner) = inner.strip_prefix('|') {
        let (name, rest) = name(inner)?;
        return Some((name, rest.strip_prefix("|]")?));
    }
    let (name, rest) = name(inner).filter(|(name, _)| is_one_of(IN_BRACKETS, name))?;
    Some((name, rest.strip_prefix(']')?))
}

fn in_angles(inner: &str) -> Option<(&str, &str)> {
    // `<|im_start|>`, which most have, whatever its name is; and `<|turn>`.
    if let Some(inner) = inner.strip_prefix('|') {
        let (name, rest) = name(inner)?;
        return Some((name, rest.strip_prefix('|').unwrap_or(rest).strip_prefix('>')?));
    }
    // `<｜User｜>` of DeepSeek, and `</｜DSML｜` that more can follow.
    if let Some(inner) = inner.strip_prefix('/').unwrap_or(inner).strip_prefix('｜') {
        let (name, rest) = name(inner)?;
        let rest = rest.strip_prefix('｜')?;
        return Some((name, rest.strip_prefix('>').unwrap_or(rest)));
    }
    // `<<SYS>>` of Llama 2.
    if let Some(inner) = inner.strip_prefix('<') {
        let (name, rest) = name(inner).filter(|(name, _)| is_one_of(&["SYS"], name))?;
        return Some((name, rest.strip_prefix(">>")?));
    }
    let (name, rest) = name(inner)?;
    match rest.strip_prefix('>') {
        Some(rest) => is_one_of(IN_ANGLES, name).then_some((name, rest)),
        // `<turn|>` of Gemma 4.
        None => Some((name, rest.strip_prefix("|>")?)),
    }
}

/// The name that `text` begins with, and what stands behind it.
fn name(text: &str) -> Option<(&str, &str)> {
    let is_inside = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '-' | '/' | ':' | '▁');
    let end = text.find(|c| !is_inside(c))?;
    (1..=LONGEST).contains(&end).then(|| text.split_at(end))
}

/// Whether a mark begins or ends what one of these names stands for.
fn is_one_of(names: &[&str], name: &str) -> bool {
    names.contains(&name.strip_prefix('/').unwrap_or(name))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    const MARKERS: &[&str] = &[
        "<|im_start|>",
        "<|im_end|>",
        "<|endoftext|>",
        "<|begin_of_text|>",
        "<|start_header_id|>",
        "<|eot_id|>",
        "<|python_tag|>",
        "<|user|>",
        "<|/tool_call|>",
        "<|start|>",
        "<|channel|>",
        "<|start_of_role|>",
        "<|START_OF_TURN_TOKEN|>",
        "<|tool_call_argument_begin|>",
        "<|turn>",
        "<turn|>",
        "[|assistant|]",
        "<｜User｜>",
        "<｜begin▁of▁sentence｜>",
        "<｜tool▁calls▁begin｜>",
        "<｜DSML｜",
        "</｜DSML｜",
        "[INST]",
        "[/INST]",
        "<<SYS>>",
        "<</SYS>>",
        "[SYSTEM_PROMPT]",
        "[/SYSTEM_PROMPT]",
        "[TOOL_CALLS]",
        "[AVAILABLE_TOOLS]",
        "[/TOOL_RESULTS]",
        "[IMG]",
        "[gMASK]",
        "<start_of_turn>",
        "<end_of_turn>",
        "<bos>",
        "<eos>",
        "<s>",
        "</s>",
        "<tool_call>",
        "</tool_response>",
        "</think>",
        "<BOS_TOKEN>",
        "<role>",
        "<seed:bos>",
        "]~b]",
        "[e~[",
    ];

    #[test]
    fn no_mark_of_a_chat_is_left_of_a_text() {
        for marker in MARKERS {
            let plain = without_markers(marker);
            assert!(
                plain.starts_with('(') && plain.ends_with(')') && !plain.contains(['<', '[', '|', '｜']),
                "{plain}"
            );
            let around = format!("<<[{marker}user\n{marker}{marker}]>");
            let plain = without_markers(&around);
            assert!(!plain.contains(marker), "{plain}");
            assert_eq!(without_markers(&plain), plain, "nothing is left to take away");
        }
        assert_eq!(without_markers("<|<|a|>|><[INST]s>"), "<|(a)|><(INST)s>", "none comes of what is left");
    }

    #[test]
    fn what_is_no_mark_stays_as_it_is() {
        for text in [
            "see [RFC7231] and [SECTION] of x.ini",
            "usage: tool [ARGS] [OPTIONS] [FILE]",
            "TODO [1] [not one] [INST and <| end",
            "x<y, a <b> c, <script>, <div class=\"s\">, Vec<u8>",
            "a <- 1, p |> f, [|1; 2|], x << SYS >> 2",
            "｜价格｜ and <，>",
        ] {
            assert_eq!(without_markers(text), text);
        }
    }

    #[test]
    fn a_value_keeps_its_shape() {
        let value = json!({ "<|a|>": ["[INST] \"x\"", 1], "b": [[], "[SECTION]"] });
        assert_eq!(value_without_markers(value), json!({ "(a)": ["(INST) \"x\"", 1], "b": [[], "[SECTION]"] }));
    }
}
