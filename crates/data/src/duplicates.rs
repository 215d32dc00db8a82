//! Duplicates in a corpus: a teacher that samples its own stories may generate few different ones.

use rayon::prelude::*;
use std::collections::{HashMap, HashSet};

/// Number of words in a shingle.
const GRAM: usize = 5;
/// Number of MinHash values of a text; four of them form a band. A pair of texts with Jaccard similarity s is compared
/// exactly if at least one band agrees, which happens with probability 1 - (1 - s^4)^32: .87 at s = .5, .97 at .6, .05
/// at .2.
const HASHES: usize = 128;
const ROWS: usize = 4;
/// Minimum Jaccard similarity of near duplicates.
const NEAR: f64 = 0.5;

/// Number of documents of a corpus that repeat an earlier one.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct DiversityReport {
    /// Number of all documents.
    pub documents: usize,
    /// Number of documents whose text is identical to an earlier one.
    pub exact_duplicates: usize,
    /// Number of documents that are not exact duplicates and whose set of word 5-grams has Jaccard similarity >= 0.5
    /// with an earlier one.
    pub near_duplicates: usize,
}

/// Counts exact and near duplicates. Words are separated by white space; a text of fewer than five words is one gram.
///
/// Near duplicates are found by locality-sensitive hashing with fixed seeds and then checked exactly: the same texts
/// always give the same report, there are no false positives, and a few near duplicates just above the threshold are
/// missed.
///
/// # Examples
/// ```
/// use logitcask_data::diversity;
///
/// let texts = ["a cat sat on the mat", "a dog ran home", "a cat sat on the mat"].map(String::from);
/// let report = diversity(&texts);
/// assert_eq!((report.documents, report.exact_duplicates, report.near_duplicates), (3, 1, 0));
/// ```
pub fn diversity(texts: &[String]) -> DiversityReport {
    let grams: Vec<Vec<u64>> = texts.par_iter().map(|text| word_grams(text)).collect();
    let bands: Vec<Vec<u64>> = grams.par_iter().map(|grams| band_keys(grams)).collect();
    let mut seen = HashSet::new();
    let mut buckets: HashMap<(usize, u64), Vec<usize>> = HashMap::new();
    let mut report = DiversityReport { documents: texts.len(), ..Default::default() };
    for (index, text) in texts.iter().enumerate() {
        if !seen.insert(text) {
            report.exact_duplicates += 1;
            continue;
        }
        let keys = || bands[index].iter().copied().enumerate();
        let mut candidates: Vec<usize> =
            keys().filter_map(|key| buckets.get(&key)).flat_map(|bucket| bucket.iter().copied()).collect();
        candidates.sort_unstable();
        candidates.dedup();
        let is_near = candidates.iter().any(|&earlier| jaccard(&grams[earlier], &grams[index]) >= NEAR);
        report.near_duplicates += usize::from(is_near);
        keys().for_each(|key| buckets.entry(key).or_default().push(index));
    }
    report
}

/// The set of a text's word 5-grams as sorted hashes.
fn word_grams(text: &str) -> Vec<u64> {
    let words: Vec<&str> = text.split_whitespace().collect();
    let mut grams: Vec<u64> = words.windows(GRAM.min(words.len().max(1))).map(hash_words).collect();
    grams.sort_unstable();
    grams.dedup();
    grams
}

/// First eight bytes of the BLAKE3 hash of the words, separated by single spaces.
fn hash_words(words: &[&str]) -> u64 {
    let mut short = [0; 8];
    short.copy_from_slice(&blake3::hash(words.join(" ").as_bytes()).as_bytes()[..8]);
    u64::from_le_bytes(short)
}

/// One key per band of the MinHash signature; empty for an empty set.
fn band_keys(grams: &[u64]) -> Vec<u64> {
    let minimum = |seed: u64| grams.iter().map(|gram| mix(gram ^ mix(seed))).min();
    let signature: Option<Vec<u64>> = (1..=HASHES as u64).map(minimum).collect();
    let key = |band: &[u64]| band.iter().fold(0, |key, hash| mix(key ^ hash));
    signature.unwrap_or_default().chunks(ROWS).map(key).collect()
}

/// Finalizer of SplitMix64: a bijection in which each input bit changes half of the output bits on average.
fn mix(mut x: u64) -> u64 {
    x = x.wrapping_add(0x9e37_79b9_7f4a_7c15);
    x = (x ^ (x >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    x = (x ^ (x >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    x ^ (x >> 31)
}

/// Size of the intersection over size of the union of two sorted sets, of which at least one is not empty.
fn jaccard(a: &[u64], b: &[u64]) -> f64 {
    let common = a.iter().filter(|gram| b.binary_search(gram).is_ok()).count();
    common as f64 / (a.len() + b.len() - common) as f64
}

#[cfg(test)]
mod tests {
    use super::*;
    use logitcask_core::rng::CounterRng;

    fn story(seed: u64, words: usize) -> Vec<String> {
        let mut rng = CounterRng::new("diversity test", &[seed]);
        (0..words).map(|_| format!("w{}", rng.below(500))).collect()
    }

    #[test]
    fn planted_duplicates_are_counted() {
        let mut texts: Vec<String> = (0..200).map(|seed| story(seed, 120).join(" ")).collect();
        for seed in 0..7 {
            texts.push(story(seed, 120).join(" "));
        }
        // One changed word in 120 breaks 5 of 116 grams: similarity 111 / 121.
        for seed in 10..21 {
            let mut words = story(seed, 120);
            words[60] = "other".into();
            texts.push(words.join(" "));
        }
        // Half of a text shares 56 of 176 grams: similarity .32, not near.
        for seed in 30..35 {
            let mut words = story(seed, 60);
            words.extend(story(seed + 1000, 60));
            texts.push(words.join(" "));
        }
        assert_eq!(diversity(&texts), DiversityReport { documents: 223, exact_duplicates: 7, near_duplicates: 11 });
    }

    #[test]
    fn short_and_empty_texts_are_compared_whole() {
        let texts = ["", "once upon", "once  upon", "upon once", " "].map(String::from);
        let report = diversity(&texts);
        assert_eq!(report, DiversityReport { documents: 5, exact_duplicates: 0, near_duplicates: 1 });
    }

    #[test]
    fn similarity_by_hand() {
        assert_eq!(jaccard(&[1, 2, 3], &[2, 3, 4]), 0.5);
        assert_eq!(jaccard(&[1], &[2]), 0.0);
        assert_eq!(word_grams("a b c d e f").len(), 2);
        assert_eq!(word_grams("a b c d").len(), 1);
        assert_eq!(word_grams(" \n").len(), 0);
    }
}
