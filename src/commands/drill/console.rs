//! What the console of a drill's machine says: which lines are ours, and why it failed. Pure functions.

/// What stage 1 and the rescue system begin each of their lines with, after the seconds.
pub(super) const OUR_LINES: &str = "towline: ";

/// What begins the message of a failure; cause and next step follow.
pub(super) const FAILED: &str = "towline: FAILED: ";

/// What begins a warning.
const WARNING: &str = "towline: warning: ";

/// The last message of a failure on a console, with its causes and its next step, on one line.
pub(super) fn message(console: &[String]) -> String {
    let begin = console.iter().rposition(|it| it.contains(FAILED));
    let lines = console.iter().skip(begin.unwrap_or(0));
    let texts = lines.filter_map(|line| Some(line.split_once(OUR_LINES)?.1.trim()));
    let is_part = |(index, text): &(usize, &str)| {
        *index == 0 || text.starts_with("because: ") || text.starts_with("next: ")
    };
    let texts: Vec<_> = texts
        .enumerate()
        .take_while(is_part)
        .map(|it| it.1)
        .collect();
    texts.join("; ").trim_start_matches("FAILED: ").to_owned()
}

/// What a machine that goes on trying says.
pub(super) fn last_warning(console: &[String]) -> Option<String> {
    let mut lines = console.iter().rev();
    lines.find_map(|it| Some(it.split_once(WARNING)?.1.to_owned()))
}

#[cfg(test)]
mod tests {
    use super::{last_warning, message};

    #[test]
    fn a_failure_is_told_with_its_causes_and_nothing_that_follows() {
        let console = [
            "     3.7 towline: asking https://10.0.2.2:1 for a plan",
            "     4.0 towline: FAILED: https://10.0.2.2:1 cannot be reached",
            "     4.0 towline:   because: connection refused",
            "     4.0 towline:   next: check that the server runs",
            "     4.0 towline: What next? It tries again by itself in 30 s.",
        ];
        let console = console.map(str::to_owned);
        assert_eq!(last_warning(&console), None);
        assert_eq!(
            message(&console),
            "https://10.0.2.2:1 cannot be reached; because: connection refused; next: check that the server runs"
        );
    }

    #[test]
    fn what_a_machine_waited_for_is_told_when_time_is_over() {
        let console = [
            "    21.7 towline: warning: restic does not answer, trying again in 10 s: no repository",
            "    31.9 towline: warning: restic does not answer, trying again in 10 s: timeout",
            "    32.0 towline:   something else",
        ];
        let told = last_warning(&console.map(str::to_owned)).unwrap();
        assert_eq!(
            told,
            "restic does not answer, trying again in 10 s: timeout"
        );
    }
}
