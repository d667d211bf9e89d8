//! What is known about each name, and the set that follows from it.

use std::collections::BTreeMap;
use std::time::Duration;

use witgate_exchange::contracts::discovery::{EndpointSink, EndpointSpec, Key};

use super::ask::{Answer, Kind};

/// The names of one upstream.
pub(super) struct Names {
    names: Vec<Name>,
    /// The set that was reported last.
    reported: Option<Vec<EndpointSpec>>,
}

struct Name {
    asked: Kind,
    /// What was found last. `None` until the name was looked up with success.
    known: Option<Vec<EndpointSpec>>,
    /// Whether the last look-up said that the name does not exist, which another look-up has to confirm.
    doubtful: bool,
}

impl Name {
    /// The known endpoints of the family of addresses that these endpoints are not of.
    fn of_other_family(&self, endpoints: &[EndpointSpec]) -> Vec<EndpointSpec> {
        let is_six = |spec: &EndpointSpec| spec.host.contains(':');
        let found = |six: bool| endpoints.iter().any(|spec| is_six(spec) == six);
        let known = self.known.iter().flatten();
        known.filter(|spec| !found(is_six(spec))).cloned().collect()
    }
}

impl Names {
    pub(super) fn new(asked: Vec<Kind>) -> Names {
        let names = asked.into_iter().map(|asked| Name { asked, known: None, doubtful: false });
        Names { names: names.collect(), reported: None }
    }

    /// What has to be looked up, in the order in which [`Names::learn`] takes the answers.
    pub(super) fn asked(&self) -> impl Iterator<Item = &Kind> {
        self.names.iter().map(|name| &name.asked)
    }

    /// Takes the answers, and reports what follows from them. Returns how long they are valid; `None` if a name has
    /// to be looked up again soon.
    pub(super) fn learn(&mut self, answers: Vec<Answer>, sink: &dyn EndpointSink) -> Option<Duration> {
        let (mut valid_for, mut again, mut trouble) = (Duration::MAX, false, None);
        for (name, answer) in self.names.iter_mut().zip(answers) {
            match answer {
                Answer::Found { endpoints, valid_for: ttl, whole } => {
                    let missing = if whole { Vec::new() } else { name.of_other_family(&endpoints) };
                    name.known = Some(endpoints.into_iter().chain(missing).collect());
                    name.doubtful = false;
                    valid_for = valid_for.min(ttl);
                }
                Answer::Absent(why) if name.doubtful => {
                    name.known = Some(Vec::new());
                    trouble = Some(why);
                    again = true;
                }
                Answer::Absent(why) => {
                    (name.doubtful, again) = (true, true);
                    trouble = Some(format!("{why}; it is looked up once more before this is believed"));
                }
                Answer::Failed(why) => (again, trouble) = (true, Some(why)),
            }
        }
        self.report(trouble, sink);
        (!again).then_some(valid_for)
    }

    fn report(&mut self, trouble: Option<String>, sink: &dyn EndpointSink) {
        // A set in which a name is missing that has not been looked up yet would be too small.
        let known: Option<Vec<&Vec<EndpointSpec>>> =
            self.names.iter().map(|name| name.known.as_ref()).collect();
        let Some(known) = known.or_else(|| self.known_after_trouble(&trouble)) else {
            sink.failed(trouble.unwrap_or_else(|| "not all names are known yet".to_owned()));
            return;
        };
        let set = merged(&known);
        let changed = self.reported.as_ref() != Some(&set);
        if trouble.is_none() || changed {
            // What is refused is noted by the sink.
            let _ = sink.whole(set.clone());
            self.reported = Some(set);
        }
        if let Some(why) = trouble {
            sink.failed(why);
        }
    }

    /// What is known of some names while others cannot be looked up: better than nothing at the start.
    fn known_after_trouble(&self, trouble: &Option<String>) -> Option<Vec<&Vec<EndpointSpec>>> {
        let known: Vec<_> = self.names.iter().filter_map(|name| name.known.as_ref()).collect();
        (trouble.is_some() && !known.is_empty()).then_some(known)
    }
}

/// One endpoint for each address and port, in the order of their keys. Of several with the same key, the one with
/// the best priority stays.
fn merged(known: &[&Vec<EndpointSpec>]) -> Vec<EndpointSpec> {
    let mut merged: BTreeMap<Key, EndpointSpec> = BTreeMap::new();
    for spec in known.iter().copied().flatten() {
        let better = merged.get(&spec.key()).is_none_or(|before| spec.priority < before.priority);
        if better {
            merged.insert(spec.key(), spec.clone());
        }
    }
    merged.into_values().collect()
}

#[cfg(test)]
mod tests {
    use std::cell::RefCell;
    use std::sync::Mutex;

    use witgate_exchange::contracts::discovery::{Difference, Refused};

    use super::*;

    #[derive(Default)]
    struct Heard(Mutex<RefCell<Vec<String>>>);

    impl Heard {
        fn note(&self, what: String) {
            self.0.lock().unwrap().borrow_mut().push(what);
        }

        fn take(&self) -> Vec<String> {
            self.0.lock().unwrap().take()
        }
    }

    impl EndpointSink for Heard {
        fn whole(&self, endpoints: Vec<EndpointSpec>) -> Result<(), Refused> {
            let hosts: Vec<&str> = endpoints.iter().map(|spec| spec.host.as_str()).collect();
            self.note(format!("set {}", hosts.join(" ")));
            Ok(())
        }

        fn difference(&self, _: Difference) -> Result<(), Refused> {
            Ok(())
        }

        fn confirm(&self) {}

        fn failed(&self, why: String) {
            self.note(why);
        }
    }

    fn names(count: usize) -> Names {
        Names::new((0..count).map(|_| Kind::Services { name: "a".into() }).collect())
    }

    fn found(hosts: &[&str], ttl: u64) -> Answer {
        let endpoints = hosts.iter().map(|host| EndpointSpec::at(host, 80)).collect();
        Answer::Found { endpoints, valid_for: Duration::from_secs(ttl), whole: true }
    }

    fn failed() -> Answer {
        Answer::Failed("no answer".into())
    }

    fn absent() -> Answer {
        Answer::Absent("it does not exist".into())
    }

    #[test]
    fn names_are_merged_and_the_shortest_time_counts() {
        let (mut names, heard) = (names(2), Heard::default());
        let wait = names.learn(vec![found(&["10.0.0.2", "10.0.0.1"], 30), found(&["10.0.0.2"], 20)], &heard);
        assert_eq!(
            (wait, heard.take()),
            (Some(Duration::from_secs(20)), vec!["set 10.0.0.1 10.0.0.2".to_owned()])
        );
    }

    #[test]
    fn what_fails_takes_nothing_away_and_does_not_stop_the_others() {
        let (mut names, heard) = (names(2), Heard::default());
        assert_eq!(names.learn(vec![failed(), failed()], &heard), None);
        assert_eq!(heard.take(), ["no answer"], "no set is reported");
        names.learn(vec![found(&["10.0.0.1"], 9), failed()], &heard);
        assert_eq!(heard.take(), ["set 10.0.0.1", "no answer"]);
        names.learn(vec![found(&["10.0.0.1"], 9), found(&["10.0.0.2"], 9)], &heard);
        assert_eq!(heard.take(), ["set 10.0.0.1 10.0.0.2"]);
        names.learn(vec![failed(), found(&["10.0.0.3"], 9)], &heard);
        assert_eq!(heard.take(), ["set 10.0.0.1 10.0.0.3", "no answer"]);
        names.learn(vec![failed(), failed()], &heard);
        assert_eq!(heard.take(), ["no answer"], "what is unchanged is not confirmed");
    }

    #[test]
    fn addresses_of_a_family_that_cannot_be_looked_up_stay() {
        let (mut names, heard) = (names(1), Heard::default());
        names.learn(vec![found(&["10.0.0.1", "2001:db8::1"], 9)], &heard);
        let partly = |hosts: &[&str]| match found(hosts, 9) {
            Answer::Found { endpoints, valid_for, .. } => {
                Answer::Found { endpoints, valid_for, whole: false }
            }
            other => other,
        };
        names.learn(vec![partly(&["10.0.0.2"])], &heard);
        names.learn(vec![partly(&["2001:db8::2"])], &heard);
        names.learn(vec![found(&["10.0.0.2"], 9)], &heard);
        let expected = [
            "set 10.0.0.1 2001:db8::1",
            "set 10.0.0.2 2001:db8::1",
            "set 10.0.0.2 2001:db8::2",
            "set 10.0.0.2",
        ];
        assert_eq!(heard.take(), expected);
    }

    #[test]
    fn a_name_that_does_not_exist_is_believed_after_a_second_look() {
        let (mut names, heard) = (names(1), Heard::default());
        names.learn(vec![found(&["10.0.0.1"], 9)], &heard);
        heard.take();
        assert_eq!(names.learn(vec![absent()], &heard), None);
        assert!(heard.take()[0].contains("once more"));
        // A failure in between does not count as the second look.
        names.learn(vec![failed()], &heard);
        assert_eq!(heard.take(), ["no answer"]);
        names.learn(vec![absent()], &heard);
        assert_eq!(heard.take(), ["set ", "it does not exist"]);
        names.learn(vec![found(&["10.0.0.1"], 9)], &heard);
        names.learn(vec![absent()], &heard);
        assert!(heard.take().last().unwrap().contains("once more"), "it begins anew");
    }
}
