//! When a request is sent again, and how long its answer is waited for.

use std::time::Duration;

/// Longest wait before an attempt, whatever a busy server asks for.
#[cfg(feature = "http")]
const LONGEST_WAIT: Duration = Duration::from_secs(300);
/// Longest wait that grows by itself.
#[cfg(feature = "http")]
const LONGEST_BACKOFF: Duration = Duration::from_secs(60);

/// When a request is sent again, and how long its answer is waited for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RetryPolicy {
    /// Further attempts after a timeout, a broken connection, or a status that passes: 408, 429 and 5xx.
    pub retries: u32,
    /// The wait before the first of them, unless the server names another; it doubles from one to the next.
    pub first_wait: Duration,
    /// Longest wait for an answer to begin, and for its next bytes.
    pub timeout: Duration,
}

impl Default for RetryPolicy {
    /// Eight further attempts over about four minutes, in which a server can start anew; ten minutes for an answer.
    fn default() -> Self {
        Self { retries: 8, first_wait: Duration::from_secs(1), timeout: Duration::from_secs(600) }
    }
}

#[cfg(feature = "http")]
impl RetryPolicy {
    /// The wait before further attempt number `retry`, from 0, if the server asked for `asked`.
    pub(crate) fn wait(&self, retry: u32, asked: Option<Duration>) -> Duration {
        let grown = self.first_wait.saturating_mul(1 << retry.min(16)).min(LONGEST_BACKOFF);
        asked.map_or(grown, |asked| asked.min(LONGEST_WAIT))
    }
}

#[cfg(all(test, feature = "http"))]
mod tests {
    use super::*;

    #[test]
    fn waits_double_up_to_a_minute_and_a_server_may_ask_for_others() {
        let policy = RetryPolicy::default();
        let waits: Vec<u64> = (0..8).map(|retry| policy.wait(retry, None).as_secs()).collect();
        assert_eq!(waits, [1, 2, 4, 8, 16, 32, 60, 60]);
        assert_eq!(policy.wait(7, Some(Duration::ZERO)), Duration::ZERO);
        assert_eq!(policy.wait(0, Some(Duration::from_secs(100_000))), LONGEST_WAIT);
    }
}
