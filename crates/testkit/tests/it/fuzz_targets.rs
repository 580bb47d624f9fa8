//! The fuzz targets without a fuzzer: their seeds as they are, then damaged at random for `RUNTREE_FUZZ_MILLISECONDS` each (default 1,000).
//!
//! `make fuzz` finds more, because libFuzzer sees which damage leads somewhere new; this runs wherever tests run, and keeps what was once found from coming back.

use std::fs;
use std::panic::catch_unwind;
use std::path::Path;
use std::time::{Duration, Instant};

#[expect(
    unreachable_pub,
    reason = "a library for cargo fuzz, a module of this test"
)]
#[path = "../../../../fuzz/src/lib.rs"]
mod targets;

/// Numbers at which lengths and offsets go wrong.
const NUMBERS: [u64; 12] = [
    0,
    1,
    7,
    0x7f,
    0xff,
    0xffff,
    1 << 20,
    100_000_000,
    0x7fff_ffff,
    0xffff_ffff,
    u64::MAX >> 1,
    u64::MAX,
];

/// xorshift64*: the same numbers for the same seed, on every machine.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        self.0.wrapping_mul(0x2545_f491_4f6c_dd1d)
    }

    fn below(&mut self, end: usize) -> usize {
        (self.next() % end.max(1) as u64) as usize
    }
}

fn damage(input: &mut Vec<u8>, seeds: &[Vec<u8>], random: &mut Random) {
    for _ in 0..=random.below(4) {
        let at = random.below(input.len());
        let count = random.below(32).min(input.len() - at);
        match random.below(8) {
            0 if !input.is_empty() => input[at] ^= 1 << random.below(8),
            1 if !input.is_empty() => input[at] = random.next() as u8,
            2 => input.truncate(at),
            3 => drop(input.drain(at..at + count)),
            4 => {
                let again = input[at..at + count].to_vec();
                input.splice(at..at, again);
            }
            5 => {
                let number = NUMBERS[random.below(NUMBERS.len())].to_le_bytes();
                let width = [1, 2, 4, 8][random.below(4)].min(input.len() - at);
                input[at..at + width].copy_from_slice(&number[..width]);
            }
            6 if !seeds.is_empty() => {
                let other = &seeds[random.below(seeds.len())];
                let from = random.below(other.len());
                input.truncate(at);
                input.extend_from_slice(&other[from..]);
            }
            _ => input.insert(at, random.next() as u8),
        }
    }
    input.truncate(1 << 16);
}

fn run(name: &str, target: targets::Target, input: &[u8]) {
    assert!(
        catch_unwind(|| target(input)).is_ok(),
        "fuzz target {name} fails; put this into fuzz/seeds/{name}: b\"{}\"",
        input.escape_ascii()
    );
}

#[expect(
    clippy::disallowed_methods,
    reason = "a test is an edge: it takes its size from the environment"
)]
fn setting(name: &str) -> Option<u64> {
    std::env::var(name).ok().and_then(|text| text.parse().ok())
}

#[test]
fn no_target_fails_on_its_seeds_or_on_damaged_ones() {
    let time = Duration::from_millis(setting("RUNTREE_FUZZ_MILLISECONDS").unwrap_or(1000));
    let seed = setting("RUNTREE_SEED").unwrap_or(20_261_125);
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../fuzz/seeds");
    std::thread::scope(|scope| {
        for &(name, target) in targets::TARGETS {
            let mut paths: Vec<_> = fs::read_dir(folder.join(name))
                .unwrap()
                .map(|entry| entry.unwrap().path())
                .collect();
            paths.sort();
            let seeds: Vec<Vec<u8>> = paths.iter().map(|path| fs::read(path).unwrap()).collect();
            scope.spawn(move || {
                for input in &seeds {
                    run(name, target, input);
                }
                let mut random = Random(seed);
                let end = Instant::now() + time;
                while Instant::now() < end {
                    for _ in 0..50 {
                        let mut input = match seeds.len() {
                            0 => Vec::new(),
                            count => seeds[random.below(count)].clone(),
                        };
                        damage(&mut input, &seeds, &mut random);
                        run(name, target, &input);
                    }
                }
            });
        }
    });
}
