# deploy/sipward.yaml as a man page: its comments are paragraphs, its keys stay as they are.
# awk -v version=... -f keys.awk sipward.yaml

function escape(line) {
    gsub(/\\/, "\\e", line)
    gsub(/-/, "\\-", line)
    return line ~ /^[.']/ ? "\\&" line : line
}

function literal(wanted) {
    if (wanted == in_literal) return
    print wanted ? ".RS 4\n.nf" : ".fi\n.RE"
    in_literal = wanted
}

BEGIN {
    printf ".TH SIPWARD.YAML 5 \"2026-11-23\" \"sipward %s\" \"File formats\"\n", version
    print ".SH NAME\nsipward.yaml \\- configuration of the SIP edge proxy sipward"
    print ".SH DESCRIPTION\nA YAML file. An unknown key, or one that is wrong, is a mistake: \\fBsipward check\\fR \\fIFILE\\fR"
    print "names all of them with their lines, and prints what a file without mistakes comes to."
    print ".PP\nThe smallest useful file has \\fBdomain\\fR, \\fBcertificate\\fR, \\fBlisten\\fR, and \\fBbackends\\fR or \\fBusers\\fR."
    print "Below, each key that is optional stands behind a #, with its default, or with an example where it has none."
    print ".SH KEYS"
    intro = 1
}
intro && /^$/ { intro = 0; next } # the head of the file speaks of the file itself
intro { next }
/^$/ { literal(0); gap = 1; next }
gap { print ".PP"; gap = 0 }
/^# [^ ]/ { literal(0); print escape(substr($0, 3)); next }
{ literal(1); print escape($0) }
END {
    literal(0)
    print ".SH SEE ALSO\n.BR sipward (8)"
}
