//! Tables as CSV (RFC 4180), for people who open them in a spreadsheet.

/// Rows of cells. A cell that a spreadsheet would take for a formula is told as text: somebody may have
/// chosen a name that does something when an auditor opens it.
pub fn rows<R, C>(rows: impl IntoIterator<Item = R>) -> Vec<u8>
where
    R: IntoIterator<Item = C>,
    C: AsRef<str>,
{
    let mut sheet =
        csv::WriterBuilder::new().terminator(csv::Terminator::CRLF).from_writer(Vec::new());
    for row in rows {
        // Into memory, which does not fail.
        let _ = sheet.write_record(row.into_iter().map(|cell| plain(cell.as_ref())));
    }
    sheet.into_inner().unwrap_or_default()
}

fn plain(cell: &str) -> String {
    // Behind white space, too: some spreadsheets pass over it.
    let starts = cell.trim_start().starts_with(['=', '+', '-', '@']);
    if starts || cell.starts_with(['\t', '\r', '\n']) {
        format!("'{cell}")
    } else {
        cell.to_owned()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cell_is_never_a_formula() {
        for bad in ["=1+1", "+1", "-1", "@SUM(A1)", "\t=1", " =1", "\r=1", "\n@a"] {
            assert!(plain(bad).starts_with('\''), "{bad:?}");
        }
        assert_eq!(rows([["a,b", "x\"y", "=1", ""]]), b"\"a,b\",\"x\"\"y\",'=1,\r\n");
    }
}
