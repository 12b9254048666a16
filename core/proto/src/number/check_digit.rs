//! The check digit of H. Michael Damm ("Total anti-symmetrische Quasigruppen", 2004): finds every single
//! wrong digit and every transposition of neighbours.

/// A totally anti-symmetric quasigroup of order ten with zeros on its diagonal (Damm's example).
const QUASIGROUP: [[u8; 10]; 10] = [
    [0, 3, 1, 7, 5, 9, 8, 6, 4, 2],
    [7, 0, 9, 2, 1, 5, 4, 8, 6, 3],
    [4, 2, 0, 6, 8, 7, 1, 3, 5, 9],
    [1, 7, 5, 0, 9, 8, 3, 4, 2, 6],
    [6, 1, 2, 3, 0, 4, 5, 9, 7, 8],
    [3, 6, 7, 4, 2, 0, 9, 5, 8, 1],
    [5, 8, 6, 9, 7, 2, 0, 1, 3, 4],
    [8, 9, 4, 5, 3, 6, 2, 0, 1, 7],
    [9, 4, 3, 8, 6, 1, 7, 2, 0, 5],
    [2, 5, 8, 1, 4, 3, 6, 7, 9, 0],
];

/// The check digit of `digits`, each 0 to 9.
pub(super) fn of(digits: &[u8]) -> u8 {
    digits.iter().fold(0, |interim, digit| QUASIGROUP[usize::from(interim)][usize::from(*digit)])
}

#[cfg(test)]
mod tests {
    use super::*;

    fn valid(digits: &[u8]) -> bool {
        of(digits) == 0
    }

    #[test]
    fn known_vectors() {
        // 572 -> 4 is the example of Damm's thesis as it is quoted everywhere; appending it gives 0.
        assert_eq!(of(&[5, 7, 2]), 4);
        assert!(valid(&[5, 7, 2, 4]));
        assert!(!valid(&[5, 7, 2, 7]));
        assert_eq!(of(&[]), 0);
        assert_eq!(of(&[0; 11]), 0);
    }

    #[test]
    fn the_table_is_a_totally_anti_symmetric_quasigroup() {
        for a in 0..10 {
            let row: std::collections::BTreeSet<u8> = QUASIGROUP[a].into_iter().collect();
            let column: std::collections::BTreeSet<u8> = QUASIGROUP.iter().map(|row| row[a]).collect();
            assert_eq!((row.len(), column.len(), QUASIGROUP[a][a]), (10, 10, 0));
            for c in 0..10 {
                for b in (0..10).filter(|b| *b != a) {
                    let then = |x: usize, y: usize| QUASIGROUP[usize::from(QUASIGROUP[c][x])][y];
                    assert_ne!(then(a, b), then(b, a), "transposition of {a}{b} after {c}");
                }
            }
        }
    }
}
