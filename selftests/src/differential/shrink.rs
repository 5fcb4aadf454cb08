// SPDX-License-Identifier: GPL-2.0

//! Delta debugging: the smallest list that still fails.

/// Leaves out of `all`, which fails, whatever can be left out: first large
/// stretches, then smaller ones, at last each item by itself. What is left fails,
/// and no single item of it can go.
pub fn smallest<X: Clone>(all: &[X], fails: &mut dyn FnMut(&[X]) -> bool) -> Vec<X> {
    let mut left = all.to_vec();
    let mut size = left.len().div_ceil(2);
    while size > 0 {
        let mut changed = false;
        // From the end: what comes last is what the first failure did not need.
        let mut end = left.len();
        while end > 0 {
            let start = end.saturating_sub(size);
            let mut fewer = left.clone();
            fewer.drain(start..end);
            if fails(&fewer) {
                left = fewer;
                changed = true;
            }
            end = start.min(left.len());
        }
        if size > 1 {
            size = size.div_ceil(2);
        } else if !changed {
            break;
        }
    }
    left
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shrunk(count: u32, needed: &[u32]) -> (Vec<u32>, usize) {
        let all: Vec<u32> = (0..count).collect();
        let mut tries = 0;
        let left = smallest(&all, &mut |some| {
            tries += 1;
            needed.iter().all(|n| some.contains(n))
        });
        (left, tries)
    }

    #[test]
    fn only_what_is_needed_is_left() {
        for needed in [&[][..], &[0], &[99], &[3, 4], &[0, 50, 99], &[7, 8, 9, 80]] {
            assert_eq!(shrunk(100, needed).0, needed);
        }
    }

    #[test]
    fn few_tries_are_needed() {
        assert!(shrunk(300, &[17, 203]).1 < 60);
    }

    #[test]
    fn the_order_stays() {
        let all = ["mkdir", "x", "create", "y", "unlink"];
        let left = smallest(&all, &mut |some| {
            let at = |what| some.iter().position(|s| *s == what);
            matches!((at("create"), at("unlink")), (Some(a), Some(b)) if a < b)
        });
        assert_eq!(left, ["create", "unlink"]);
    }

    #[test]
    fn an_item_that_can_go_only_after_another_goes() {
        // "b" may be left out only where "c" has been left out.
        let left = smallest(&["a", "b", "c"], &mut |some| {
            some.contains(&"a") && (some.contains(&"b") || !some.contains(&"c"))
        });
        assert_eq!(left, ["a"]);
    }

    #[test]
    fn what_does_not_shrink_is_left_whole() {
        let left = smallest(&[1, 2, 3], &mut |some| some.len() == 3);
        assert_eq!(left, [1, 2, 3]);
        assert!(smallest(&[0u8; 0], &mut |_| true).is_empty());
    }
}
