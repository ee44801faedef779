from __future__ import annotations

import pytest

from datamodules.cleanup.statuses import Named, Status, judge_by, judge_by_words

SENTENCES = {
    Status.FINDING: """
        There is a small left pleural effusion.
        Cardiomegaly without pulmonary edema.
        No pneumothorax, but the right effusion has grown.
        No effusion; persistent atelectasis at the left base.
        No abnormality except for an old rib fracture.
        No significant change in the right pleural effusion.
        Compared to the previous study, the consolidation is larger.
        Pneumonia cannot be excluded.
        The effusion has only partially resolved.
        The left-sided pacemaker leads are unchanged.
        No doubt a mass.
        The heart is big.
        A coarse interstitial pattern, without fracture.
        Endotracheal tube ends four centimetres above the carina
        No focal consolidation and there is mild oedema.""",
    Status.NEGATED: """
        No pleural effusion, pneumothorax or focal consolidation.
        There is no evidence of acute cardiopulmonary process.
        The heart is not enlarged.
        The lungs are clear without consolidation.
        Neither effusion nor opacity.
        A pneumothorax is not identified.
        The opacity described before has resolved.
        Pleural fluid is no longer seen.
        Negative for fracture.
        No fibrotic change.
        Compared with the prior film, no new opacity.
        Interval removal of the chest tube.""",
    Status.NORMAL: """
        The lungs are clear.
        Heart size is normal.
        Normal chest radiograph.
        Mediastinal contours are within normal limits.
        The bony thorax is intact.
        Radiograph without relevant findings.
        In comparison with the study of May, the heart is unremarkable.""",
    Status.NON_DIAGNOSTIC: """
        Comparison is made to the earlier radiograph.
        Single portable upright view of the chest.
        The patient is rotated.
        Recommend CT to evaluate the nodule.
        Findings were discussed with the ward by telephone.
        Follow-up to show that the pneumonia resolves.
        No significant interval change.
        History of cough.""",
}


@pytest.mark.parametrize(
    ("status", "sentence"), [(s, line.strip()) for s, lines in SENTENCES.items() for line in lines.strip().split("\n")]
)
def test_a_sentence_is_what_it_says(status: Status, sentence: str) -> None:
    assert judge_by_words(sentence) is status
    assert judge_by_words(f"  {sentence.upper()} ".replace(" ", "\n ", 1)) is status


def test_words_inside_words_are_no_cues() -> None:
    assert judge_by_words("Nodular opacity, notched") is Status.FINDING  # "no", "not"
    assert judge_by_words("Air under the diaphragm") is Status.FINDING  # in doubt
    assert judge_by_words("") is Status.FINDING


def test_what_a_finder_names_is_believed_and_words_decide_on_the_rest() -> None:
    says: dict[str, bool | None] = {"blorb": True, "quux": False, "old zig": None}

    def find(sentence: str) -> list[Named]:
        found = [(sentence.find(word), word) for word in says]
        return [Named(start, start + len(word), says[word]) for start, word in found if start >= 0]

    judge = judge_by(find)
    assert judge("No blorb.") is Status.FINDING
    assert judge("Recommend CT of the blorb.") is Status.NON_DIAGNOSTIC
    assert judge("The quux nodule.") is Status.FINDING
    assert judge("A normal quux.") is Status.NORMAL
    assert judge("A quux.") is Status.NEGATED
    assert judge("No quux.") is Status.NEGATED
    assert judge("An old zig has resolved, no opacity.") is Status.NEGATED  # called past: words decide
    assert judge("An old zig of the lung.") is Status.FINDING
    assert judge("Portable view of the chest.") is judge_by_words("Portable view of the chest.")
