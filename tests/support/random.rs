//! Random numbers in the distributions that the tests need.

use fastrand::Rng;

/// A number in which small ones are as likely as large ones, order of magnitude by order of magnitude.
pub fn log_uniform(rng: &mut Rng, least: usize, most: usize) -> usize {
    let (low, high) = ((least as f64).ln(), (most as f64 + 1.0).ln());
    ((low + rng.f64() * (high - low)).exp() as usize).clamp(least, most)
}

/// Whether something that happens in `percent` of all cases does.
pub fn percent(rng: &mut Rng, percent: u32) -> bool {
    rng.u32(0..100) < percent
}

/// One of several.
pub fn one_of<'a, T>(rng: &mut Rng, among: &'a [T]) -> &'a T {
    &among[rng.usize(0..among.len())]
}

/// A seed for something that a text stands for, the same each time.
pub fn seed_of(text: &str, salt: u64) -> u64 {
    text.bytes().fold(salt ^ 0xcbf2_9ce4_8422_2325, |hash, byte| (hash ^ u64::from(byte)).wrapping_mul(0x100_0000_01b3))
}
