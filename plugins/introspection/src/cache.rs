//! Answers in the store, which all instances share. A key is the digest of a token, so that the store holds no tokens.

use std::time::Duration;

use witgate_sdk::crypto::{self, Hash};
use witgate_sdk::{clock, encoding, log, store};

use crate::answer::Answer;

/// Where answers are kept, and for how long.
pub(crate) struct Cache {
    pub(crate) space: String,
    /// Who gives the answers.
    pub(crate) place: String,
    /// How long answers for active tokens are kept.
    pub(crate) active: Duration,
    /// How long other answers are kept.
    pub(crate) inactive: Duration,
}

impl Cache {
    /// The answer for a token, and when it has to be asked for again (since 1970). If the store cannot be used there is none.
    pub(crate) fn get(&self, token: &str) -> Option<(Answer, Duration)> {
        let mut entry = store::space(&self.space).get(&self.key(token)).ok()??;
        let text = entry.split_off(8.min(entry.len()));
        let until = Duration::from_millis(u64::from_be_bytes(entry.try_into().ok()?));
        // The store keeps time, too; but it may be another machine's.
        (until > clock::now()).then_some((Answer::read(text).ok()?, until))
    }

    /// Keeps an answer; returns when it has to be asked for again. Zero: at once.
    pub(crate) fn put(&self, token: &str, answer: &Answer) -> Duration {
        let longest = if answer.active { self.active } else { self.inactive };
        let time = answer.left().map_or(longest, |left| left.min(longest));
        let milliseconds = u64::try_from(time.as_millis()).unwrap_or(u64::MAX);
        if milliseconds == 0 {
            return Duration::ZERO;
        }
        let until = clock::now() + time;
        let stamp = u64::try_from(until.as_millis()).unwrap_or(u64::MAX).to_be_bytes();
        let entry = [&stamp, &answer.text[..]].concat();
        if let Err(error) = store::space(&self.space).set(&self.key(token), entry, Some(time)) {
            log::debug(format_args!("an answer is not kept: {error}"));
        }
        until
    }

    fn key(&self, token: &str) -> String {
        encoding::hex(crypto::digest(Hash::Sha256, format!("{}\n{token}", self.place)))
    }
}
