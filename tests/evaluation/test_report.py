import json
import re
from html.parser import HTMLParser
from xml.etree import ElementTree

import pytest
from matplotlib.image import imread

from storerec.errors import DataError
from storerec.evaluation.comparison import Comparison
from storerec.evaluation.comparison_report import ranking_document, scoring_document
from storerec.evaluation.comparison_tables import p_value
from storerec.evaluation.document import Entry, TextTable
from storerec.evaluation.html_page import html_page, inline_svg
from storerec.evaluation.latex import escaped as latex_escaped
from storerec.evaluation.latex import latex
from storerec.evaluation.markdown import escaped as markdown_escaped
from storerec.evaluation.markdown import markdown, markdown_table
from storerec.evaluation.report_folder import write_report, write_score_report
from tests.evaluation.comparisons import ODD, N, cells, compare, compare_judged, world

PAPER = {"store": {"recall@5": 0.0726, "paper_ndcg@5": 0.1785}, "tiger": {"recall@5": 0.0168}}
IDS = [f"i{i}" for i in range(N)]


class Reader(HTMLParser):
    """Checks nesting; keeps text, elements, ids and whatever could ask a network."""

    VOID = ("meta", "br", "img", "link")

    def __init__(self, page):
        super().__init__()
        self.open, self.text, self.seen, self.ids, self.outside = [], [], [], [], []
        self.feed(page)
        assert self.open == []

    def handle_starttag(self, tag, attrs):
        self.seen.append(tag)
        self.ids += [value for name, value in attrs if name == "id"]
        self.outside += [v for n, v in attrs if n in ("src", "href", "xlink:href", "action") and not v.startswith("#")]
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag, attrs):
        self.handle_starttag(tag, attrs)
        if tag not in self.VOID:
            self.open.pop()

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        self.text.append(data)


@pytest.fixture(scope="module")
def comparison():
    return compare(paper=PAPER)


@pytest.fixture(scope="module")
def folder(comparison, tmp_path_factory):
    folder = tmp_path_factory.mktemp("results") / "report"
    users = world()[1].histories.user_ids
    write_report(comparison, folder, user_ids=users, item_ids=IDS, scoring=compare_judged())
    return folder


def test_all_files_are_there_and_nothing_else(folder):
    found = {str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file()}
    plots = {f"plots/{name}.png" for name in ("ndcg_10", "recall_10", "slices", "cost", "scoring_auc")}
    assert found == plots | {
        *("report.md", "report.html", "table.tex"),
        *("comparison.json", "per_user.json", "scoring.json"),
    }
    for name in plots:
        image = imread(folder / name)
        assert min(image.shape[:2]) > 150
        assert image[..., :3].min() < 0.5  # has ink


def test_json_gives_the_same_report_again(comparison, folder):
    again = Comparison.from_json(json.loads((folder / "comparison.json").read_text()))
    text = markdown(ranking_document(again))
    assert text == markdown(ranking_document(comparison))
    assert (folder / "report.md").read_text().startswith(text.rstrip())


def test_page_is_well_formed_asks_no_network_and_escapes(folder):
    page = (folder / "report.html").read_text()
    reader = Reader(page)
    assert reader.outside == []
    assert not re.search(r"https?://|@import|url\((?!#)", page)
    assert len(reader.ids) == len(set(reader.ids))
    assert "script" not in reader.seen
    assert reader.seen.count("svg") == 5
    text = "".join(reader.text)
    assert ODD in text
    assert "Small & odd <comparison>" in text
    assert "2 cores <4 GB>" in text
    assert "prefers-color-scheme: dark" in page


def test_plots_in_the_page_take_its_text_colour(comparison):
    plot = ranking_document(comparison).sections[0].plots[0]
    svg = inline_svg(plot)
    assert "currentColor" in svg
    assert "#010203" not in svg
    assert f">{ODD.replace('&', '&amp;').replace('<', '&lt;').replace('>', '&gt;')}<" in svg
    wanted = set(re.findall(r'(?:url\(#|href="#)([^)"]+)', svg))
    assert wanted
    assert wanted <= set(re.findall(r' id="([^"]+)"', svg))
    ElementTree.fromstring(svg.replace("xlink:href", "href"))
    assert inline_svg(plot) == svg


def test_report_says_what_the_numbers_rest_on(folder):
    text = (folder / "report.md").read_text().replace("\\", "")
    for needed in (
        "Full ranking of all 60 items for 150 users",
        "protocol leave_one_out",
        "are not left out of its list",
        "24 targets stand in their user's history",
        "3 of 153 users have fewer than 3 items",
        "Seeds of training: 1, 2, 3 (0 only: popularity; 1, 2 only:",
        "95% percentile bootstrap intervals over users",
        "sign flips",
        "not whether other seeds",
        "500 flips; Holm's correction over the 3 other systems",
        "Command: storerec compare --data x",
        "Machine: 2 cores",
        "| p5 | out of memory |",
        "| sasrec, seed 3 | not run |",
        "stopped early (seed 2)",
        "log2(K + 1) * NDCG@20",
        '"trials": 8',
        "groups left out because they lack a positive or a negative: 1",
    ):
        assert needed in text, needed
    assert text.count('"trials": 8') == 1


def test_losses_are_printed_like_wins(comparison, folder):
    text = (folder / "report.md").read_text().partition("## Scoring")[0]
    found = comparison.differences
    for name, verdict in (("popularity", "ahead"), (markdown_escaped(ODD), "behind"), ("twin", "not told apart")):
        rows = [line for line in text.splitlines() if line.startswith(f"| {name} ") and line.endswith(f"{verdict} |")]
        assert len(rows) == 2  # NDCG@10 and Recall@10
    loss = found[ODD]["ndcg@10"]
    assert f"| {loss.value:+.4f} |" in text
    assert loss.value < 0
    best = comparison.systems[ODD].item_level["ndcg@10"].value
    assert f"**{best:.4f}** ↑" in text
    assert f"{comparison.systems['popularity'].item_level['ndcg@10'].value:.4f} ↓" in text


def test_only_differences_beyond_chance_are_marked(comparison):
    main = ranking_document(comparison).sections[0].tables[0]
    marks = {row[0].text: [entry.mark for entry in row[1:]] for row in main.rows}
    assert set(marks["twin"]) == set(marks["store (reference)"]) == {""}
    metrics = list(comparison.systems["store"].item_level)
    for name in ("popularity", ODD):
        for metric, mark in zip(metrics, marks[name], strict=True):
            found = comparison.differences[name][metric]
            clear = "down" if found.value > 0 else "up"
            assert mark == (clear if found.p_adjusted < 0.05 else "")


def test_paper_stands_beside_ours_under_its_own_name(comparison):
    section = next(s for s in ranking_document(comparison).sections if s.title == "The paper's figures")
    table = section.tables[0]
    assert table.header == ("System", "Recall@5", "Paper's NDCG@5")
    rows = {row[0].text: [entry.text for entry in row[1:]] for row in table.rows}
    ours = comparison.systems["store"]
    assert rows["store"][0] == f"{ours.item_level['recall@5'].value:.4f} / 0.0726"
    assert rows["store"][1] == f"{ours.paper_formula['paper_ndcg@5'].value:.4f} / 0.1785"
    assert rows["tiger"] == ["- / 0.0168", "- / -"]
    without = ranking_document(compare())
    assert "The paper's formula" in [s.title for s in without.sections]


def test_latex_is_balanced_and_escaped(folder):
    text = (folder / "table.tex").read_text()
    assert text.count(r"\begin{table}") == text.count(r"\end{table}") > 5
    assert r"better \textless{}\&\textbar{}\_\$\%\textgreater{}" in text
    assert not re.search(r"(?<!\\)[&%$#_](?=[A-Za-z]*\$\\%)", text)
    labels = re.findall(r"\\label\{(.*?)\}", text)
    assert len(labels) == len(set(labels))
    assert set(re.findall(r"\\ref\{(.*?)\}", text)) == {"tab:item-level", "tab:scoring-of-judged-candidates"}
    for block in re.findall(r"\\begin\{tabular\}\{l(r*)\}(.*?)\\end\{tabular\}", text, flags=re.DOTALL):
        rows = [line for line in block[1].splitlines() if line.endswith(r"\\")]
        assert {len(re.findall(r"(?<!\\)&", row)) for row in rows} == {len(block[0])}
    stripped = re.sub(r"\\[{}]", "", text)
    assert stripped.count("{") == stripped.count("}")


def test_escapes():
    assert latex_escaped(r"a_b\c--d") == r"a\_b\textbackslash{}c-{}-d"
    assert markdown_escaped("a|b\n*c* <d>") == r"a\|b \*c\* &lt;d&gt;"
    table = TextTable("t", ("a", "b"), ((Entry("x|y"), Entry("1", bold=True, mark="up")),))
    assert markdown_table(table).splitlines() == ["| a | b |", "| --- | ---: |", r"| x\|y | **1** ↑ |"]
    assert [p_value(p) for p in (0.0001, 0.0012, 1.0)] == ["< 0.001", "0.001", "1.000"]


def test_settings_with_backticks_stay_inside_their_fence():
    text = markdown(ranking_document(compare(settings={"a": "```\n# no heading"})))
    assert re.search(r"^````json$", text, flags=re.MULTILINE)


def test_a_comparison_without_reference_or_times_still_reports(tmp_path):
    kept = [c for c in cells() if c.system == ODD]
    lonely = Comparison.from_json(compare(kept, failures={"store": "killed"}).to_json())
    write_report(lonely, tmp_path, user_ids=[], item_ids=[])
    assert not (tmp_path / "per_user.json").exists()  # it is read from JSON
    text = (tmp_path / "report.md").read_text()
    assert "The reference gave no result, so nothing was tested" in text
    assert "| store | killed |" in text
    assert "minus each other" not in text
    Reader((tmp_path / "report.html").read_text())


def test_scores_alone(tmp_path):
    scoring = compare_judged()
    write_score_report(scoring, tmp_path)
    assert json.loads((tmp_path / "scoring.json").read_text())["groups"] == 80
    text = (tmp_path / "report.md").read_text()
    assert "| gpt | no key |" in text
    assert "0.5057" in text
    assert html_page(scoring_document(scoring)) == (tmp_path / "report.html").read_text()
    assert latex(scoring_document(scoring)) == (tmp_path / "table.tex").read_text()


def test_wrong_ids_are_an_error_before_any_report(comparison, tmp_path):
    with pytest.raises(DataError, match="2 user ids"):
        write_report(comparison, tmp_path, user_ids=["a", "b"], item_ids=IDS)
    assert not (tmp_path / "report.html").exists()


def test_a_machine_may_be_told_in_parts():
    found = compare(settings={"machine": {"cpu": "x", "cores": 2}})
    assert ranking_document(found).statements[-1] == "Machine: cpu x, cores 2"
