//! What the binary tells of itself.

use std::process::{Command, Stdio};

use crate::process::run;

async fn output(arguments: &[&str]) -> String {
    let output = run(arguments, &[]).await;
    assert!(output.status.success() && output.stderr.is_empty(), "{output:?}");
    String::from_utf8(output.stdout).expect("UTF-8")
}

/// What a program says of a text at its standard input; `None` where there is no such program.
fn checked(program: &str, arguments: &[&str], text: &str) -> Option<std::process::Output> {
    let mut command = Command::new(program);
    let piped = command.args(arguments).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = piped.spawn().ok()?;
    std::io::Write::write_all(&mut child.stdin.take().expect("piped"), text.as_bytes()).expect("written");
    Some(child.wait_with_output().expect("it ends"))
}

#[tokio::test]
async fn version_names_the_commit_of_the_checkout() {
    let version = output(&["--version"]).await;
    let commit = option_env!("BUILD_COMMIT").map(|commit| format!(" ({})", &commit[..12.min(commit.len())]));
    let expected = format!("mcp-image-server {}{}\n", env!("CARGO_PKG_VERSION"), commit.unwrap_or_default());
    assert_eq!(version, expected);
    let git =
        Command::new("git").args(["rev-parse", "HEAD"]).current_dir(env!("CARGO_MANIFEST_DIR")).output();
    if let Ok(git) = git
        && git.status.success()
        && option_env!("GIT_COMMIT").is_none()
    {
        assert_eq!(option_env!("BUILD_COMMIT"), Some(String::from_utf8_lossy(&git.stdout).trim()));
    }
}

#[tokio::test]
async fn completions_are_a_script_that_the_shell_reads() {
    let script = output(&["completions", "bash"]).await;
    // Bash is there wherever the tests' own scripts run.
    let bash = checked("bash", &["-n"], &script).expect("bash");
    assert!(bash.status.success() && bash.stderr.is_empty(), "{bash:?}");
    let (_, function) = script.split_once("complete -F ").expect("a function that completes");
    let function = function.split(' ').next().expect("its name");
    let asked = format!(
        "{script}\nCOMP_WORDS=(mcp-image-server comp); COMP_CWORD=1\n\
         {function} mcp-image-server comp mcp-image-server\necho \"${{COMPREPLY[*]}}\""
    );
    let bash = checked("bash", &[], &asked).expect("bash");
    assert_eq!(String::from_utf8_lossy(&bash.stdout).trim(), "completions", "{bash:?}");
}

#[tokio::test]
async fn manual_page_is_roff_that_formats_without_a_complaint() {
    let page = output(&["man"]).await;
    assert!(page.contains(".TH mcp-image-server 1") && page.contains("STORAGE_PATH"), "{page}");
    if let Some(groff) = checked("groff", &["-man", "-Tutf8", "-ww", "-P-cbou"], &page) {
        assert!(groff.status.success() && groff.stderr.is_empty(), "{groff:?}");
        let text = String::from_utf8_lossy(&groff.stdout);
        assert!(text.contains("COMMANDS") && text.contains("completions"), "{text}");
    }
}
