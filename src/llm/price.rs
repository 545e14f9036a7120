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

    /// The price of a model, which may be named with its provider: that of the longest name in the list that its own
    /// begins with, so that a dated name of a model costs what the model does.
    pub fn of(model: &str, prices: &BTreeMap<String, Self>) -> Option<Self> {
        let bare = model.rsplit("::").next().unwrap_or(model);
        // A date, or the number of a build; `-5` would be another model.
        let is_dated = |rest: &str| rest.bytes().take_while(u8::is_ascii_digit).count() >= 3;
        let begins = |name: &str, known: &str| {
            name.strip_prefix(known).is_some_and(|rest| rest.is_empty() || rest.strip_prefix('-').is_some_and(is_dated))
        };
        let fits = |known: &str| begins(bare, known) || begins(model, known);
        prices.iter().filter(|(known, _)| fits(known)).max_by_key(|(known, _)| known.len()).map(|(_, price)| *price)
    }

    /// The higher one of each.
    #[must_use]
    pub fn max(self, other: Self) -> Self {
        Self { input: self.input.max(other.input), output: self.output.max(other.output) }
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

    /// The price of a model, as [`Price::of`] finds it.
    pub fn find(&self, model: &str) -> Option<Price> {
        Price::of(model, &self.models)
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
    fn a_name_with_its_provider_is_another_one_than_without_only_where_it_is_listed() {
        let at = |input| Price { input, output: 0.0 };
        let prices = BTreeMap::from([("m".to_owned(), at(1.0)), ("other::m".to_owned(), at(2.0))]);
        let found = ["m", "some::m", "m-2024-08-06", "other::m", "other::m-2024-08-06", "mm"]
            .map(|model| Price::of(model, &prices).map(|price| price.input));
        assert_eq!(found, [Some(1.0), Some(1.0), Some(1.0), Some(2.0), Some(2.0), None]);
    }

    #[test]
    fn money_is_rounded_up() {
        let price = Price { input: 2.5, output: 10.0 };
        assert_eq!(price.micro_usd(1_000_000, 0), 2_500_000);
        assert_eq!(price.micro_usd(1, 0), 3);
        assert_eq!(price.micro_usd(0, 0), 0);
    }
}
