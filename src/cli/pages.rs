//! What a packager installs beside the binary: completions and the manual page, made from the command line itself.

use std::{io, process::ExitCode};

use clap::{Command, CommandFactory};
use clap_complete::Shell;
use clap_mangen::{
    Man,
    roff::{Roff, bold, roman},
};

use super::{Cli, print};
use crate::config;

/// `completions`: prints a script for a shell.
pub fn run_completions(shell: Shell) -> ExitCode {
    print(io::stdout(), &completions(shell));
    ExitCode::SUCCESS
}

/// `man`: prints the manual page, in roff.
pub fn run_man() -> ExitCode {
    match man() {
        Ok(page) => {
            print(io::stdout(), &page);
            ExitCode::SUCCESS
        }
        Err(error) => {
            print(io::stderr(), &format!("mcp-image-server: {error}\n"));
            ExitCode::FAILURE
        }
    }
}

fn completions(shell: Shell) -> String {
    let mut script = Vec::new();
    clap_complete::generate(shell, &mut command_line(), "mcp-image-server", &mut script);
    String::from_utf8_lossy(&script).into_owned()
}

/// One page: the commands and the variables are on it, for there are no pages of their own.
fn man() -> io::Result<String> {
    let mut page = Vec::new();
    let man = Man::new(command_line());
    man.render_title(&mut page)?;
    man.render_name_section(&mut page)?;
    man.render_synopsis_section(&mut page)?;
    man.render_description_section(&mut page)?;
    man.render_options_section(&mut page)?;

    let mut rest = Roff::new();
    rest.control("SH", ["COMMANDS"]);
    let mut command = command_line();
    command.build();
    let shown = |command: &&Command| !command.is_hide_set() && command.get_name() != "help";
    for command in command.get_subcommands().filter(shown) {
        rest.control("TP", []).text([bold(usage(command))]);
        rest.text([roman(command.get_about().map(ToString::to_string).unwrap_or_default())]);
    }
    rest.control("SH", ["ENVIRONMENT"]);
    for variable in config::variables() {
        rest.control("TP", []).text([bold(variable.name)]);
        rest.text([roman(format!("{} Allowed: {}.", variable.help, variable.allowed()))]);
    }
    rest.control("SH", ["EXIT STATUS"]);
    for (code, meaning) in [
        ("0", "All is well."),
        ("1", "Something failed."),
        ("2", "Wrong usage."),
        ("78", "Wrong configuration."),
    ] {
        rest.control("TP", []).text([bold(code)]).text([roman(meaning)]);
    }
    rest.to_writer(&mut page)?;
    man.render_version_section(&mut page)?;
    Ok(ascii(&String::from_utf8_lossy(&page)))
}

/// Not every formatter reads UTF-8; all of them know characters by number.
fn ascii(page: &str) -> String {
    page.chars().fold(String::with_capacity(page.len()), |mut page, character| {
        if character.is_ascii() {
            page.push(character);
        } else {
            page.push_str(&format!("\\[u{:04X}]", u32::from(character)));
        }
        page
    })
}

/// The definition of the command line; `Cli::command` is what was given on it.
fn command_line() -> Command {
    <Cli as CommandFactory>::command()
}

/// A command with its own options and arguments.
fn usage(command: &Command) -> String {
    let arguments =
        command.get_arguments().filter(|argument| !argument.is_global_set() && !is_help(argument));
    arguments.fold(command.get_name().to_owned(), |usage, argument| {
        if argument.is_required_set() {
            format!("{usage} {argument}")
        } else {
            format!("{usage} [{argument}]")
        }
    })
}

fn is_help(argument: &clap::Arg) -> bool {
    matches!(argument.get_id().as_str(), "help" | "version")
}

#[cfg(test)]
mod tests {
    use clap::ValueEnum as _;

    use super::*;

    #[test]
    fn completions_of_each_shell_know_the_commands_and_options() {
        for shell in Shell::value_variants() {
            let script = completions(*shell);
            for word in ["check", "clean", "health", "completions", "env-file", "json"] {
                assert!(script.contains(word), "{word} for {shell}");
            }
        }
    }

    #[test]
    fn man_page_has_every_command_and_variable_that_is_shown() {
        let page = man().expect("rendered");
        for part in
            ["clean [\\-\\-json]", "completions <SHELL>", "health", ".SH \"EXIT STATUS\"", "\\-\\-env\\-file"]
        {
            assert!(page.contains(part), "{part} in {page}");
        }
        assert!(!page.contains("config\\-docs") && page.is_ascii(), "{page}");
        for variable in config::variables() {
            assert!(page.contains(&format!("\\fB{}\\fR", variable.name)), "{}", variable.name);
        }
    }
}
