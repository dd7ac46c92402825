//! What the fuzz targets share: from an input to a crash, and from an input to the next.

use libfuzzer_sys::Corpus;
use vpa_fuzz::{Problem, Worth};

/// One change in so many is made by libFuzzer, byte by byte, so that inputs that are no JSON come up too.
const BYTES_EVERY: u32 = 16;

/// Makes a problem known to libFuzzer.
///
/// # Panics
/// When there is one.
pub fn verdict(checked: Result<Worth, Problem>) -> Corpus {
    match checked {
        Ok(Worth::Checked) => Corpus::Keep,
        Ok(Worth::Nothing) => Corpus::Reject,
        Err(problem) => panic!("{problem}"),
    }
}

/// Changes the input of `size` bytes in `data`, and returns its new size.
pub fn mutate(data: &mut [u8], size: usize, size_max: usize, seed: u32) -> usize {
    let changed =
        if seed % BYTES_EVERY == 0 { None } else { vpa_fuzz::mutate(&data[..size], size_max, seed) };
    match changed {
        Some(changed) => put(data, &changed),
        None => libfuzzer_sys::fuzzer_mutate(data, size, size_max),
    }
}

/// Puts a part of `other` into `data`, as the input `out`, and returns its size; zero where that leads nowhere.
pub fn cross(data: &[u8], other: &[u8], out: &mut [u8], seed: u32) -> usize {
    vpa_fuzz::cross(data, other, out.len(), seed).map_or(0, |crossed| put(out, &crossed))
}

fn put(data: &mut [u8], input: &[u8]) -> usize {
    data[..input.len()].copy_from_slice(input);
    input.len()
}

/// A target with the given check.
#[macro_export]
macro_rules! target {
    ($check:path) => {
        libfuzzer_sys::fuzz_target!(|data: &[u8]| -> libfuzzer_sys::Corpus { $crate::verdict($check(data)) });
        libfuzzer_sys::fuzz_mutator!(|data: &mut [u8], size: usize, max_size: usize, seed: u32| {
            $crate::mutate(data, size, max_size, seed)
        });
        libfuzzer_sys::fuzz_crossover!(|data1: &[u8], data2: &[u8], out: &mut [u8], seed: u32| {
            $crate::cross(data1, data2, out, seed)
        });
    };
}
