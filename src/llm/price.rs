//! What models cost.

use std::collections::BTreeMap;

use serde::Deserialize;

use crate::event::Usage;

/// The list that comes with the crate.
const BUILT_IN: &str = include_str!("prices.json");

/// What a million tokens cost, in US dollars.
#[derive(Clone, Copy, Debug, Default, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Price {
    /// Tokens sent.
    pub input: f64,
    /// Tokens received.
    pub output: f64,
}

impl Price {
    /// What these tokens cost, in millionths of a dollar, rounded up: a limit on spending is not to be passed unseen.
    pub fn micro_usd(&self, input_tokens: u64, output_tokens: u64) -> u64 {
        // A dollar for a million tokens is a millionth of a dollar for one.
        let micro = self.input * input_tokens as f64 + self.output * output_tokens as f64;
        micro.max(0.0).ceil() as u64
    }

    /// Adds the price to what a provider counted.
    pub(super) fn charge(&self, usage: &mut Usage) {
        usage.micro_usd = self.micro_usd(usage.input_tokens, usage.output_tokens);
    }
}

/// What is known about prices, and when it was.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PriceList {
    /// The day of the list, as `YYYY-MM-DD`.
    pub version: String,
    /// By the beginning of a model's name.
    models: BTreeMap<String, Price>,
}

impl PriceList {
    /// The list that comes with the crate. Prices change: whoever relies on one states it.
    ///
    /// # Panics
    ///
    /// Never: a test reads the list.
    pub fn built_in() -> Self {
        serde_json::from_str(BUILT_IN).expect("the built-in price list is valid")
    }

    /// The price of a model: that of the longest name in the list that its own begins with, so that a dated name of a
    /// model costs what the model does.
    pub fn find(&self, model: &str) -> Option<Price> {
        let name = model.rsplit("::").next().unwrap_or(model);
        // A date, or the number of a build; `-5` would be another model.
        let is_dated = |rest: &str| rest.bytes().take_while(u8::is_ascii_digit).count() >= 3;
        let fits = |known: &str| {
            name.strip_prefix(known).is_some_and(|rest| rest.is_empty() || rest.strip_prefix('-').is_some_and(is_dated))
        };
        self.models
            .iter()
            .filter(|(known, _)| fits(known))
            .max_by_key(|(known, _)| known.len())
            .map(|(_, price)| *price)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_dated_name_costs_what_the_model_does_and_another_model_does_not() {
        let list = PriceList::built_in();
        let price = list.find("gpt-4o").unwrap();
        assert_eq!(list.find("openai::gpt-4o"), Some(price));
        assert_eq!(list.find("gpt-4o-2024-08-06"), Some(price));
        assert_ne!(list.find("gpt-4o-mini"), Some(price));
        assert_eq!(list.find("gpt-4o-unheard-of"), None);
        assert_eq!(list.find("claude-sonnet-4-20250514"), list.find("claude-sonnet-4"));
        assert_eq!(list.find("claude-opus-4-9"), None);
        assert_eq!(list.find("mock"), None);
    }

    #[test]
    fn money_is_rounded_up() {
        let price = Price { input: 2.5, output: 10.0 };
        assert_eq!(price.micro_usd(1_000_000, 0), 2_500_000);
        assert_eq!(price.micro_usd(1, 0), 3);
        assert_eq!(price.micro_usd(0, 0), 0);
    }
}
