//! A report as the XML that build servers read: a suite a file, a test case a case.

use std::fmt::Write;

use super::{Failure, Ran, Report, by_file, word};
use crate::markup::escaped;

/// The report in the XML of `JUnit`.
pub fn junit(report: &Report) -> String {
    let (all, failed) = (report.cases.len(), report.failed().count());
    let mut xml = vec![
        "<?xml version=\"1.0\" encoding=\"UTF-8\"?>".to_owned(),
        format!("<testsuites name=\"postern\" tests=\"{all}\" failures=\"{failed}\">"),
    ];
    for (file, cases) in by_file(&report.cases) {
        let failed = cases.iter().filter(|ran| !ran.failures.is_empty()).count();
        let (file, all) = (escaped(file), cases.len());
        xml.push(format!("  <testsuite name=\"{file}\" tests=\"{all}\" failures=\"{failed}\">"));
        xml.extend(cases.into_iter().map(|ran| case(ran, &file)));
        xml.push("  </testsuite>".to_owned());
    }
    xml.push("</testsuites>\n".to_owned());
    xml.join("\n")
}

fn case(ran: &Ran, file: &str) -> String {
    let (name, line) = (escaped(&ran.name), ran.place.line);
    let open = format!(
        "    <testcase classname=\"{file}\" name=\"{name}\" file=\"{file}\" line=\"{line}\""
    );
    if ran.failures.is_empty() {
        return format!("{open}/>");
    }
    let told = format!("{} of {} answers are not the expected ones", ran.failures.len(), ran.asked);
    let answers: Vec<String> = ran.failures.iter().map(ToString::to_string).collect();
    let answers = escaped(&answers.join("\n"));
    let failure = format!("      <failure message=\"{told}\">{answers}</failure>");
    format!("{open}>\n{failure}\n    </testcase>")
}

impl std::fmt::Display for Failure {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let decision = &self.decision;
        let mut told = format!("{}: {} may {}?\n", self.place, self.principal, self.permission);
        let expected = self.expected_policies.as_ref().map(|p| p.iter().map(String::as_str));
        writeln!(told, "    expected: {}{}", word(self.expected), by(expected))?;
        for policy in &self.expected_errors {
            writeln!(told, "              policy `{policy}` cannot be evaluated")?;
        }
        let policies = decision.policies.iter().map(AsRef::as_ref);
        write!(told, "    got:      {}{}", word(decision.verdict), by(Some(policies)))?;
        for error in &decision.errors {
            write!(told, "\n    error:    policy `{}`: {}", error.policy, error.what)?;
        }
        f.write_str(&told)
    }
}

/// `, by …`; nothing where nothing is said of policies.
fn by<'a>(policies: Option<impl Iterator<Item = &'a str>>) -> String {
    let Some(policies) = policies else { return String::new() };
    let names: Vec<String> = policies.map(|name| format!("`{name}`")).collect();
    if names.is_empty() {
        ", by no policy".to_owned()
    } else {
        format!(", by {}", names.join(", "))
    }
}
