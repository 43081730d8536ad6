//! Names that are nearly one of ours.

use super::{Variable, variable::one_line, variables};

/// How names of this server's variables begin.
const PREFIXES: [&str; 8] =
    ["GENERATION_", "IMAGE_", "KSERVE_", "MCP_", "PREDICTOR_", "S3_", "SHUTDOWN_", "STORAGE_"];

/// The variable with this name, whatever its case.
pub(super) fn known(name: &str) -> Option<&'static Variable> {
    variables().find(|variable| variable.name.eq_ignore_ascii_case(name))
}

/// If `name` is not a variable of this server but looks meant as one: a sentence that says so.
pub(super) fn suspicious(name: &str) -> Option<String> {
    // A name longer than any of ours by more than a slip is not a slip.
    if known(name).is_some() || name.len() > 64 || !name.is_ascii() {
        return None;
    }
    let upper = name.to_ascii_uppercase();
    let near = nearest(&upper);
    let ours_by_prefix = PREFIXES.iter().any(|prefix| upper.starts_with(prefix)) && !is_service_link(&upper);
    let name = one_line(name, 64);
    match near {
        Some(near) => Some(format!("{name} is not a variable of this server; did you mean {near}?")),
        None if ours_by_prefix => Some(format!("{name} is not a variable of this server and is ignored")),
        None => None,
    }
}

/// Whether Kubernetes or Docker sets such a name for a service in the neighbourhood.
fn is_service_link(name: &str) -> bool {
    name.ends_with("_SERVICE_HOST")
        || name.ends_with("_PORT")
        || name.contains("_SERVICE_PORT")
        || name.contains("_PORT_")
}

/// The known name that is at most a slip or two away; short names must be nearer, because
/// `HOME` is no misspelt `HOST`.
fn nearest(name: &str) -> Option<&'static str> {
    let slips = match name.len() {
        0..=4 => return None,
        5..=8 => 1,
        _ => 2,
    };
    variables()
        .filter(|known| known.name.len() > 4 && known.name.len().abs_diff(name.len()) <= slips)
        .filter_map(|known| Some((distance(name, known.name, slips)?, known.name)))
        .min()
        .map(|(_, name)| name)
}

/// Insertions, deletions, substitutions and swaps of neighbours from one name to the other
/// (optimal string alignment), if they are no more than `most`.
fn distance(a: &str, b: &str, most: usize) -> Option<usize> {
    let (a, b) = (a.as_bytes(), b.as_bytes());
    let mut before: Vec<usize> = Vec::new();
    let mut above: Vec<usize> = (0..=b.len()).collect();
    let mut least_above = 0;
    for i in 1..=a.len() {
        let mut row = Vec::with_capacity(b.len() + 1);
        row.push(i);
        for j in 1..=b.len() {
            let changed = usize::from(a[i - 1] != b[j - 1]);
            let mut least = (above[j] + 1).min(row[j - 1] + 1).min(above[j - 1] + changed);
            if i > 1 && j > 1 && a[i - 1] == b[j - 2] && a[i - 2] == b[j - 1] {
                least = least.min(before[j - 2] + 1);
            }
            row.push(least);
        }
        // Each row builds on the two above it: when both are too far, nothing below is near. Every variable of the
        // environment is compared with every name, and this ends nearly all of it in the first letters.
        let least = row.iter().copied().min().unwrap_or_default();
        if least > most && least_above > most {
            return None;
        }
        least_above = least;
        before = std::mem::replace(&mut above, row);
    }
    Some(above[b.len()]).filter(|distance| *distance <= most)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn distance_counts_slips() {
        for (a, b, expected) in [
            ("", "", 0),
            ("", "ABC", 3),
            ("STORAGE_BACKED", "STORAGE_BACKEND", 1),
            ("STORAGE_BACKEDN", "STORAGE_BACKEND", 1),
            ("KSERVE_ENDPIONT", "KSERVE_ENDPOINT", 1),
            ("HOME", "HOST", 2),
        ] {
            for (a, b) in [(a, b), (b, a)] {
                assert_eq!(distance(a, b, 3), Some(expected), "{a} {b}");
                assert_eq!(distance(a, b, expected), Some(expected), "{a} {b}");
                assert_eq!(expected.checked_sub(1).and_then(|most| distance(a, b, most)), None, "{a} {b}");
            }
        }
    }

    #[test]
    fn suspicious_near_miss_names_the_variable() {
        for (name, meant) in [
            ("STORAGE_BACKED", "STORAGE_BACKEND"),
            ("storage_backedn", "STORAGE_BACKEND"),
            ("LOG_LEVLE", "LOG_LEVEL"),
            ("MAX_IMAGES_SIZE", "MAX_IMAGE_SIZE"),
            ("WORKER", "WORKERS"),
            ("PUBLIC_BASEURL", "PUBLIC_BASE_URL"),
        ] {
            let warning = suspicious(name).unwrap_or_else(|| panic!("{name} passes"));
            assert!(warning.ends_with(&format!("did you mean {meant}?")), "{warning}");
        }
    }

    #[test]
    fn suspicious_prefix_is_told_without_a_guess() {
        assert_eq!(
            suspicious("KSERVE_FLAVOUR").as_deref(),
            Some("KSERVE_FLAVOUR is not a variable of this server and is ignored")
        );
    }

    #[test]
    fn suspicious_name_with_control_characters_is_told_escaped() {
        assert_eq!(
            suspicious("KSERVE_\u{1b}[2J\n").as_deref(),
            Some("KSERVE_\\u{1b}[2J\\n is not a variable of this server and is ignored")
        );
    }

    #[test]
    fn suspicious_passes_what_others_set() {
        for name in [
            "PATH",
            "HOME",
            "HOSTNAME",
            "LANG",
            "PWD",
            "AWS_ROLE_ARN",
            "AWS_PROFILE",
            "MCP_IMAGE_SERVER_SERVICE_HOST",
            "MCP_IMAGE_SERVER_SERVICE_PORT_HTTP",
            "MCP_IMAGE_SERVER_PORT",
            "KSERVE_CONTROLLER_PORT_8443_TCP_ADDR",
            "PORT",
            "port",
            "",
            "MAX_IMAGE_SIZÉ",
        ] {
            assert_eq!(suspicious(name), None, "{name}");
        }
    }
}
