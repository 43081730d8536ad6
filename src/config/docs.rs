//! The reference of all variables, and an example file, made from the tables.

use std::fmt::Write as _;

use super::{Default, Kind, ROOMS, Variable};

const INTRODUCTION: &str = "\
# Configuration

<!-- Made from the tables in src/config/: change them, then run `UPDATE_DOCS=1 cargo test --lib config::docs`. -->

The server is configured by environment variables, and by a `.env` file in its working directory where there is
one (`--env-file FILE` names another). The environment goes before the file. Names may be written in any case; an
empty value counts as left out.

`mcp-image-server check` reads the configuration as the server would, and prints every value in effect and where it
comes from, secrets masked. All problems are reported together, each with the name, the value and what is allowed;
then the exit code is 78. A name that looks like a misspelt one of these, or begins like one, is told as a warning.

In a `.env` file, put values with spaces, `#`, quotes or `$` in single quotes: outside of them, `$NAME` is replaced by
the value of that variable.
";

const EXAMPLE_INTRODUCTION: &str = "\
# Copy to .env and uncomment what you change. docs/configuration.md tells more about each.
# Put values with spaces, `#`, quotes or `$` in single quotes.
";

/// `docs/configuration.md`.
#[must_use]
pub fn reference() -> String {
    let mut page = INTRODUCTION.to_owned();
    for room in ROOMS {
        let _ =
            write!(page, "\n## {}\n\n| variable | default | allowed | |\n|---|---|---|---|\n", room.title);
        for variable in room.variables {
            let _ = writeln!(
                page,
                "| `{}` | {} | {}{} | {} |",
                variable.name,
                default(variable),
                variable.allowed(),
                if variable.is_secret() { "; secret" } else { "" },
                variable.help
            );
        }
    }
    page
}

/// `.env.example`.
#[must_use]
pub fn env_example() -> String {
    let mut file = EXAMPLE_INTRODUCTION.to_owned();
    for room in ROOMS {
        let _ = writeln!(file, "\n## {}", room.title);
        for variable in room.variables {
            let value = match (variable.default, variable.kind) {
                (Default::Value(text), _) => text,
                _ => "",
            };
            let _ = writeln!(file, "\n# {}\n# Allowed: {}.", variable.help, variable.allowed());
            if let Default::Derived(text) = variable.default {
                let _ = writeln!(file, "# Default: {text}.");
            }
            let _ = writeln!(file, "#{}={value}", variable.name);
        }
    }
    file
}

fn default(variable: &Variable) -> String {
    match (variable.default, variable.kind) {
        (Default::Unset, _) => "-".to_owned(),
        (Default::Value(text), Kind::Integer { .. } | Kind::Seconds { .. }) => text.to_owned(),
        (Default::Value(text), _) => format!("`{text}`"),
        (Default::Derived(text), _) => text.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use std::{fs, path::Path};

    use super::*;

    /// Compares a file with what it should be, or writes it where `UPDATE_DOCS` asks for that.
    fn is_current(path: &str, expected: &str) {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(path);
        if std::env::var_os("UPDATE_DOCS").is_some() {
            fs::create_dir_all(path.parent().expect("a parent")).expect("a folder");
            fs::write(&path, expected).expect("written");
        }
        let found = fs::read_to_string(&path).unwrap_or_default();
        assert!(found == expected, "{} is stale: run with UPDATE_DOCS=1", path.display());
    }

    #[test]
    fn reference_in_docs_is_current() {
        is_current("docs/configuration.md", &reference());
    }

    #[test]
    fn env_example_is_current() {
        is_current(".env.example", &env_example());
    }

    #[test]
    fn env_example_uncommented_is_a_configuration() {
        let text: String = env_example()
            .lines()
            .filter_map(|line| {
                line.strip_prefix('#').filter(|rest| rest.starts_with(|c: char| c.is_ascii_uppercase()))
            })
            .fold(String::new(), |text, line| text + line + "\n");
        assert!(text.lines().count() > 40, "{text}");
        let source = super::super::Source::environment([("", "")]).with_env_text(".env.example", &text);
        let loaded = super::super::Config::load(source).expect("valid");
        assert_eq!(loaded.warnings, []);
    }

    #[test]
    fn reference_keeps_its_tables_whole() {
        for line in reference().lines().filter(|line| line.starts_with("| `")) {
            assert_eq!(line.matches('|').count(), 5, "{line}");
        }
    }
}
