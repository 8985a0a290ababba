"""Each published layout, made small, gives the cases it should; real data where at hand."""

import json
import subprocess
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path

import nibabel
import numpy as np
import pandas as pd
import pytest
from commands import COMMAND, typed
from conftest import REAL, real_ct
from scans import IDENTITY, rectangle, write_dicom, write_nifti, write_series, write_structures
from slicesampling import UserError
from slicesampling.cohort import importers, scans, volumes
from slicesampling.cohort.cases import chosen_parts
from slicesampling.cohort.contents import check_contents
from slicesampling.cohort.dicom import read_stack
from slicesampling.cohort.dicom_masks import write_segmentation
from slicesampling.cohort.splits import add_to_table, cohort_rows
from slicesampling.cohort.table import read_cohort, table_faults
from slicesampling.domain.labels import Label


def nifti(path: Path, *values: int) -> Path:
    """Write a small volume that holds `values`."""
    path.parent.mkdir(parents=True, exist_ok=True)
    array = np.zeros((4, 4, 4), np.int16)
    array.flat[: len(values)] = values
    nibabel.save(nibabel.Nifti1Image(array, np.eye(4)), path)
    return path


def names(found: importers.Found) -> list[str]:
    return [case.name for case in found.cases]


def test_lits(tmp_path):
    for number in (0, 2, 10):
        nifti(tmp_path / "Training Batch 1" / f"volume-{number}.nii", 1)
    for number in (0, 10, 11):
        nifti(tmp_path / "Training Batch 1" / f"segmentation-{number}.nii.gz", 1, 2)
    found = importers.find_lits(tmp_path)
    assert names(found) == ["000", "010"]
    assert found.cases[1].label == Label.single(tmp_path / "Training Batch 1/segmentation-10.nii.gz", [1, 2])
    assert [line.split(": ")[1] for line in found.left_out] == ["no segmentation-2", "no volume-11"]
    nifti(tmp_path / "again" / "volume-0.nii.gz")
    with pytest.raises(UserError, match=r"volume-0\.nii.* exists twice"):
        importers.find_lits(tmp_path)


def test_chaos_takes_the_ct_and_leaves_the_mr(tmp_path):
    for folder in ("Train_Sets/CT/1", "Train_Sets/CT/16", "Test_Sets/CT/3", "Train_Sets/MR/1/T2SPIR"):
        (tmp_path / folder / "DICOM_anon").mkdir(parents=True)
        (tmp_path / folder / "DICOM_anon/i1.dcm").touch()
        if folder != "Test_Sets/CT/3":
            (tmp_path / folder / "Ground").mkdir()
    found = importers.find_chaos(tmp_path)
    assert names(found) == ["001", "016"]
    assert found.cases[0].label == Label.single(tmp_path / "Train_Sets/CT/1/Ground")
    assert found.left_out == [f"{tmp_path}/Test_Sets/CT/3: no folder Ground with masks"]


def dataset(root: Path, **content: object) -> None:
    root.mkdir(parents=True, exist_ok=True)
    (root / "dataset.json").write_text(json.dumps(content))


def test_decathlon(tmp_path):
    dataset(
        tmp_path,
        labels={"0": "background", "1": "liver", "2": "cancer"},
        training=[
            {"image": f"./imagesTr/liver_{n}.nii.gz", "label": f"./labelsTr/liver_{n}.nii.gz"} for n in (0, 104, 5)
        ],
        test=["./imagesTs/liver_132.nii.gz"],
    )
    for number in (0, 104):
        nifti(tmp_path / f"imagesTr/liver_{number}.nii.gz")
        nifti(tmp_path / f"labelsTr/liver_{number}.nii.gz")
    found = importers.find_decathlon(tmp_path)
    assert names(found) == ["000", "104"]
    masks = [tmp_path / f"labelsTr/liver_{number}.nii.gz" for number in (0, 104)]
    assert [case.label for case in found.cases] == [Label.single(mask, [1], touching=[2]) for mask in masks]
    assert "liver_5.nii.gz: dataset.json lists it" in found.left_out[0]
    assert "gives no mask" in found.left_out[1]
    with pytest.raises(UserError, match="background, liver, cancer; none is called spleen"):
        importers.find_decathlon(tmp_path, "spleen")
    for modality, accepted in (({"0": "CT"}, True), ({"0": "MRI"}, False), ({"0": "CT", "1": "PET"}, False)):
        dataset(tmp_path, labels={"1": "liver"}, modality=modality)
        if accepted:
            importers.find_decathlon(tmp_path)
        else:
            with pytest.raises(UserError, match=r"dataset\.json: modality is .*; accepted: CT, or none"):
                importers.find_decathlon(tmp_path)


@pytest.mark.parametrize(
    "about",
    [
        {
            "channel_names": {"0": "PET", "1": "CT"},
            "labels": {"background": 0, "liver": [5, 7], "spleen": 1},
            "file_ending": ".nii.gz",
        },
        {"modality": {"0": "PET", "1": "CT"}, "labels": {"0": "background", "5": "liver", "7": "liver tumor"}},
    ],
)
def test_nnunet_in_both_versions(tmp_path, about):
    dataset(tmp_path, **about)
    for folder, name in (("Tr", "ABD_001"), ("Tr", "ABD_002"), ("Ts", "ABD_003"), ("Ts", "ABD_004")):
        for channel in range(2):
            nifti(tmp_path / f"images{folder}/{name}_{channel:04}.nii.gz")
        if name != "ABD_004":
            nifti(tmp_path / f"labels{folder}/{name}.nii.gz")
    found = importers.find_nnunet(tmp_path)
    assert [(case.name, case.split, case.label) for case in found.cases] == [
        ("ABD_001", "", Label.single(tmp_path / "labelsTr/ABD_001.nii.gz", [5, 7])),
        ("ABD_002", "", Label.single(tmp_path / "labelsTr/ABD_002.nii.gz", [5, 7])),
        ("ABD_003", "test", Label.single(tmp_path / "labelsTs/ABD_003.nii.gz", [5, 7])),
    ]
    assert {case.image.name[-12:] for case in found.cases} == {"_0001.nii.gz"}
    assert found.left_out == [f"{tmp_path}/imagesTs/ABD_004_0001.nii.gz: no mask ABD_004.nii.gz in labelsTs"]


def test_nnunet_without_ct_is_refused(tmp_path):
    dataset(tmp_path, channel_names={"0": "T1", "1": "T2"}, labels={"liver": 1})
    with pytest.raises(UserError, match="accepted: exactly one that is called CT"):
        importers.find_nnunet(tmp_path)


def test_totalsegmentator_leaves_out_what_shows_no_liver(tmp_path):
    for name, values in (("s0000", [1]), ("s0001", []), ("s0002", [1]), ("s0003", None)):
        nifti(tmp_path / name / "ct.nii.gz")
        if values is not None:
            nifti(tmp_path / name / "segmentations/liver.nii.gz", *values)
    (tmp_path / "meta.csv").write_text("image_id;age;split\ns0000;50;test\ns0002;;train\n", encoding="utf-8-sig")
    found = importers.find_totalsegmentator(tmp_path)
    assert [(case.name, case.split) for case in found.cases] == [("s0000", "test"), ("s0002", "pool")]
    assert [line.rpartition(": ")[2] for line in found.left_out] == [
        "the mask is empty",
        "no segmentations/liver.nii.gz",
    ]


def test_pairs_by_pattern(tmp_path):
    for name in ("jörg 1/a_ct.nrrd", "jörg 1/b_ct.nrrd", "p2/a_ct.nrrd", "p2/a_liver.mha", "jörg 1/b_liver.mha"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).touch()
    found = importers.find_pairs(tmp_path, "{patient}/{volume}_ct.nrrd", "{patient}/{volume}_liver.mha")
    assert [(case.patient, case.name) for case in found.cases] == [("jörg 1", "b"), ("p2", "a")]
    assert found.left_out == [f"{tmp_path}/jörg 1/a_ct.nrrd: no file for {{patient}}/{{volume}}_liver.mha"]
    for wrong in ("{name}.nii", "ct.nii", "{volume}/{volume}.nii", "{volume}.dcm"):
        with pytest.raises(UserError, match="accepted are"):
            importers.find_pairs(tmp_path, wrong, "{volume}.nii")
    (tmp_path / "x1_ct.nii").touch()
    (tmp_path / "x2_ct.nii").touch()
    (tmp_path / "y").mkdir()
    (tmp_path / "y/c_ct.nii").touch()
    (tmp_path / "p2/c_ct.nii").touch()
    with pytest.raises(UserError, match="with the same names as"):
        importers.find_pairs(tmp_path, "*/{volume}_ct.nii", "{volume}_ct.nii")


def test_images_alone_are_the_pool_that_people_annotate(tmp_path):
    for number in range(3):
        nifti(tmp_path / f"ct/{number}.nii.gz")
        nifti(tmp_path / f"known/k{number}.nii.gz")
        nifti(tmp_path / f"known/k{number}_liver.nii.gz", 1)
    table = tmp_path / "cohort.tsv"
    arguments = ["--to", table, "--site", "clinic", "--test-share", "0"]
    patterns = ["--image", "{volume}.nii.gz", "--label", "{volume}_liver.nii.gz"]
    assert "(1 pool, 2 val, 0 test" in command("pairs", tmp_path / "known", *arguments, *patterns)
    assert "(3 pool, 0 val, 0 test" in command("pairs", tmp_path / "ct", *arguments, "--image", "{volume}.nii.gz")
    cohort = read_cohort(table)
    assert list(cohort["volume"])[3:] == ["clinic-0", "clinic-1", "clinic-2"]
    assert list(cohort["label"] == "") == [False] * 3 + [True] * 3
    assert table_faults(cohort, people=True) == []
    assert {fault.column for fault in table_faults(cohort)} >= {"label"}
    assert "no volume in the layout pairs" in command("pairs", tmp_path / "ct", "--image", "{volume}.nrrd", code=1)


@pytest.mark.parametrize("content", ["", "[]", '{"labels": 3}', "\xff"])
def test_a_broken_dataset_json_is_one_line(tmp_path, content):
    (tmp_path / "dataset.json").write_text(content, encoding="latin-1")
    for find in (importers.find_decathlon, importers.find_nnunet):
        with pytest.raises(UserError, match=r"dataset\.json") as error:
            find(tmp_path)
        assert "\n" not in str(error.value)


command = partial(typed, "import")


def test_a_fault_is_one_line_and_an_exit_code(tmp_path):
    done = subprocess.run(
        [sys.executable, "-m", COMMAND, "import", "lits", str(tmp_path / "nowhere")],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 1
    assert done.stderr.startswith("error: ")
    assert done.stderr.endswith("there is no such folder\n")
    assert "\n" not in done.stderr[:-1]


def test_the_command_line(tmp_path):
    for number in range(6):
        nifti(tmp_path / f"data/volume-{number}.nii.gz")
        nifti(tmp_path / f"data/segmentation-{number}.nii.gz", 1)
    nifti(tmp_path / "data/volume-9.nii.gz")
    reasons = tmp_path / "excluded.tsv"
    reasons.write_text("volume\treason\nlits-004\tpoor mask\n")
    table = tmp_path / "cohort.tsv"
    output = command("lits", tmp_path / "data", "--to", table, "--exclude", reasons, "--validation-volumes", "1")
    assert f"{table}: 6 volumes added (2 pool, 1 val, 2 test, 1 excluded), 6 in all" in output
    assert "left out:" in output
    assert "no segmentation-9" in output
    assert read_cohort(table).loc[6, "exclude"] == "poor mask"
    assert "is there already" in command("lits", tmp_path / "data", "--to", table, code=1)
    assert "no volume with a mask in the layout chaos" in command("chaos", tmp_path / "data", code=1)
    assert "--image is needed" in command("pairs", tmp_path / "data", code=1)
    reasons.write_text("name\twhy\nlits-004\tpoor mask\n")
    assert "accepted: volume, reason" in command("lits", tmp_path / "data", "--exclude", reasons, "--to", "x", code=1)


def test_names_that_do_not_fit_and_those_of_people_become_numbers(tmp_path):
    root, table = tmp_path / "scans", tmp_path / "cohort.tsv"
    for patient, name in (("DOE^John", "Bauch CT"), ("DOE^John", "later"), ("ROE", "one")):
        for kind in ("ct", "liver"):
            nifti(root / patient / f"{name}_{kind}.nii", 1)
    patterns = ["--image", "{patient}/{volume}_ct.nii", "--label", "{patient}/{volume}_liver.nii"]
    output = command("pairs", root, *patterns, "--to", table, "--site", "clinic")
    assert "is not accepted as a name: volumes and patients are numbered" in output
    rows = read_cohort(table)[["volume", "patient"]].to_numpy().tolist()
    assert rows == [
        ["clinic-001", "clinic-patient001"], ["clinic-002", "clinic-patient001"], ["clinic-003", "clinic-patient002"],
    ]  # fmt: skip
    names = pd.read_csv(tmp_path / "scans_names.tsv", sep="\t", dtype=str)
    assert names["name"].tolist() == ["Bauch CT", "later", "one"]
    assert names["named patient"].tolist() == ["DOE^John", "DOE^John", "ROE"]
    refused = command("pairs", root, *patterns, "--to", table, "--site", "x", "--no-anonymous", code=1)
    assert "'Bauch CT' is not accepted as a name; without --no-anonymous" in refused
    # The same once more is refused, more of the site gets the next numbers, and no name of the first is lost.
    before = table.read_bytes(), (tmp_path / "scans_names.tsv").read_bytes()
    assert "is there already, as volume clinic-001 (3 such)" in command(
        "pairs", root, *patterns, "--to", table, "--site", "clinic", code=1
    )
    assert before == (table.read_bytes(), (tmp_path / "scans_names.tsv").read_bytes())
    for kind in ("ct", "liver"):
        nifti(tmp_path / f"more/DOE^Jane/Bauch CT_{kind}.nii", 1)
    more = ["--to", table, "--site", "clinic", "--key", tmp_path / "scans_names.tsv"]
    command("pairs", tmp_path / "more", *patterns, *more)
    assert read_cohort(table)[["volume", "patient"]].to_numpy().tolist()[3:] == [["clinic-004", "clinic-patient004"]]
    names = pd.read_csv(tmp_path / "scans_names.tsv", sep="\t", dtype=str)
    assert names["named patient"].tolist() == ["DOE^John", "DOE^John", "ROE", "DOE^Jane"]
    root = root.rename(tmp_path / "elsewhere")
    fitting = [root / "ROE", "--image", "{volume}_ct.nii", "--label", "{volume}_liver.nii", "--site"]
    command("pairs", *fitting, "a", "--to", table)
    root.rename(tmp_path / "again")
    fitting[0] = tmp_path / "again/ROE"
    command("pairs", *fitting, "b", "--to", table, "--anonymous", "--key", tmp_path / "key.tsv")
    assert read_cohort(table)["volume"].tolist()[4:] == ["a-one", "b-001"]
    assert (tmp_path / "key.tsv").exists()
    (tmp_path / "again").rename(tmp_path / "third")
    fitting[0] = tmp_path / "third/ROE"
    assert "--key names a file that can be written" in command(
        "pairs", *fitting, "c", "--to", table, "--anonymous", "--key", tmp_path / "key.tsv/no", code=1
    )


@real_ct
@pytest.mark.parametrize(
    ("layout", "folder", "arguments", "count"),
    [
        ("lits", "lits8bit", {}, 3),  # clipped to [-160, 240] HU
        ("chaos", "chaos", {}, 1),
        ("pairs", "totalsegmentator", {"image": "{volume}_ct.nii.gz", "label": "{volume}_liver.nii.gz"}, 1),
        ("pairs", "cervical", {"image": "{volume}_ct.nii.gz", "label": "{volume}_liver.nii.gz"}, 1),
    ],
)
def test_real_ct_is_imported_and_sound(layout, folder, arguments, count, tmp_path):
    found = importers.LAYOUTS[layout](Path(str(REAL)) / folder, **arguments)
    assert len(found.cases) == count
    add_to_table(tmp_path / "cohort.tsv", cohort_rows(found.cases, folder, {}, 0, 0, 1, folder == "lits8bit"))
    faults, measured = check_contents(read_cohort(tmp_path / "cohort.tsv"), 1)
    assert faults == []
    assert (measured["structure_ml"] > 500).all()


def archive(tmp_path: Path) -> Path:
    """Write a DICOM archive of two patients: studies, series and masks of several kinds, and what is no CT."""
    root = tmp_path / "export — 2020"
    hu = np.full((12, 16, 18), -1000, np.int16)
    hu[3:9, 4:12, 5:14] = 60

    def series(folder: str, uid: str, count: int = 12, **changes: object) -> Path:
        path = root / folder
        path.parent.mkdir(parents=True, exist_ok=True)
        one = hu[:count].copy()
        one[0, 0, 0] -= int(10 * float(uid))  # no two are one
        return write_series(path, one, SeriesInstanceUID=uid, **IDENTITY | changes)

    series("DOE/st1/ct", "1.1", PatientID="planted-1")
    series("DOE/st1/scout", "1.2", 2, PatientID="planted-1", ImageType=["ORIGINAL", "PRIMARY", "LOCALIZER"])
    series("DOE/st1/short", "1.3", 3, PatientID="planted-1")
    series("DOE/st1/unmarked", "1.4", PatientID="planted-1")
    write_dicom(root / "DOE/st1/dose", np.zeros((2, 2)), (0, 0, 0), 1, Modality="SR", PatientID="planted-1")
    box = [rectangle(10 + 2.5 * k, -40 + 3, -40 + 9.5, -60 + 3, -60 + 9) for k in range(3, 9)]
    write_structures(root / "DOE/st1/rs.dcm", {3: [box[0] + 1], 8: box}, {3: "spleen", 8: "Liver"}, "1.1")
    write_structures(root / "DOE/st1/other.dcm", {1: box}, {1: "kidney"}, "1.4")
    # The second study: two series in one folder; a segmentation says which counts.
    both = series("DOE/st2", "2.1", PatientID="planted-1")
    for path in series("tmp", "2.2", PatientID="planted-1").iterdir():
        path.rename(both / f"z-{path.name}")
    (root / "tmp").rmdir()
    stack = read_stack(both / "z-i0001.dcm")
    write_segmentation(root / "DOE/seg.dcm", stack, hu > 0)
    # The second patient: a NIfTI mask that is called like the folder.
    folder = series("ROE/a", "3.1", PatientID="planted-2")
    scan = scans.read_scan(folder)
    volumes.write_mask(root / "ROE/a_liver.nii.gz", scan.image > 0, scan.grid)
    volumes.write_mask(root / "ROE/a_spleen.nii.gz", scan.image > 0, scan.grid)
    (root / "ROE/loop").symlink_to(root)
    return root


def test_a_dicom_archive(tmp_path):
    root = archive(tmp_path)
    output = command("dicom", root, "--site", "clinic", "--to", tmp_path / "cohort.tsv", "--validation-volumes", "0")
    assert "planted" not in output
    table = read_cohort(tmp_path / "cohort.tsv")
    rows = table[["volume", "patient", "image", "label", "liver_values"]].to_numpy().tolist()
    assert rows == [
        ["clinic-001", "clinic-patient001", *(str(root / p) for p in ("DOE/st1/ct", "DOE/st1/rs.dcm")), "8"],
        ["clinic-002", "clinic-patient001", *(str(root / p) for p in ("DOE/st2/z-i0001.dcm", "DOE/seg.dcm")), "1"],
        ["clinic-003", "clinic-patient002", *(str(root / p) for p in ("ROE/a", "ROE/a_liver.nii.gz")), ""],
    ]
    for line in (
        "DOE/st1/scout: 2 DICOM file(s): a localizer",
        "DOE/st1: 1 DICOM file(s): Modality is SR",
        "DOE/st1/short/i0001.dcm: its series has 3 slices; accepted are 10 or more",
        "DOE/st1/unmarked/i0001.dcm: its series has no masks of the liver",
        "DOE/st1/other.dcm: no segment or region is named liver",
        "DOE/st2/i0001.dcm: its series has no masks",
    ):
        assert line in output
    faults, measured = check_contents(table, 1)
    assert not faults
    assert measured["file_patient"].tolist() == [1, 1, 2]
    assert measured["structure_slices"].tolist() == [6, 6, 6]


@pytest.mark.parametrize(
    ("names", "structure", "chosen"),
    [
        (["Liver", "bladder", "bladder tumour"], "liver", ([1], [])),
        (["liver", "Liver tumour 2", "Tumor", "GTV lesion 1"], "liver", ([1, 2], [3, 4])),
        (["liver", "kidney cyst", "kidney metastasis", "metastases_left_lobe"], "liver", ([1], [4])),
        (["bladder tumour", "spleen"], "liver", ([], [])),
        (["liver", "hcc", "vessel"], "liver,HCC", ([1, 2], [])),
        (["kidney_left", "kidney_right", "kidney tumour", "liver"], "kidney_left, kidney_right", ([1, 2, 3], [])),
    ],
)
def test_tumours_count_for_the_organ_that_they_are_of(names, structure, chosen):
    assert chosen_parts(dict(enumerate(names, start=1)), structure) == chosen


def test_what_is_taken_and_what_is_there_is_printed(tmp_path):
    (tmp_path / "data").mkdir()
    folder = write_series(tmp_path / "data/ct", np.zeros((12, 8, 9), np.int16))
    box = [rectangle(12.5, -38, -36, -58, -56)]
    names = {1: "Liver", 2: "bladder tumour", 3: "liver metastasis"}
    write_structures(folder.parent / "rs.dcm", dict.fromkeys(names, box), names)
    write_structures(folder.parent / "other.dcm", {1: box, 2: box}, {1: "spleen", 2: "Leber"})
    output = command("dicom", folder.parent, "--to", tmp_path / "cohort.tsv", "--validation-volumes", "0")
    assert "taken as liver: Liver, liver metastasis (1 masks)" in output
    assert "other.dcm: no segment or region is named liver; there are: spleen, Leber" in output
    assert read_cohort(tmp_path / "cohort.tsv")["liver_values"].tolist() == ["1,3"]


def neighbours(tmp_path: Path, *names: str) -> tuple[Path, Callable[[str], object]]:
    """Write series 1, 10 and 17 with masks or images called `names`; return the root, and what each series got."""
    root = tmp_path / "archive"
    root.mkdir()
    hu = np.full((12, 8, 9), -1000, np.int16)
    hu[3:9, 2:6, 2:6] = 60
    for number in (1, 10, 17):
        folder = write_series(root / f"CT{number}", hu, SeriesInstanceUID=f"1.{number}", PatientID=f"{number}")
    scan = scans.read_scan(folder)
    for name in names:
        if name.rpartition("/")[2].startswith("image"):
            write_nifti(root / name.replace("image_", ""), scan.image, scan.grid)
        else:
            volumes.write_mask(root / name, scan.image > 0, scan.grid)
    found = importers.find_dicom(root)
    masks = {
        case.image.name: one.path.relative_to(root).as_posix()
        for case in found.cases
        if case.label
        for one in case.label.structures
    }
    return root, masks.get


@pytest.mark.parametrize(
    ("names", "first"),
    [
        (["CT10_liver.nii.gz", "CT17.nii.gz"], None),  # those of other series
        (["CT1.nii.gz"], "CT1.nii.gz"),
        (["CT1_seg.nii.gz", "CT10_seg.nii.gz"], "CT1_seg.nii.gz"),
        (["CT1-liver-mask.nii.gz", "CT1_seg.nii.gz"], "CT1-liver-mask.nii.gz"),  # the structure's wins
        (["CT1/segmentation.nii.gz"], "CT1/segmentation.nii.gz"),
        (["CT1_bone.nii.gz"], None),
        (["image_CT1.nii.gz"], None),  # the CT itself
        (["CT1/image_CT1.nii.gz", "CT1_label.nii.gz"], "CT1_label.nii.gz"),
        (["CT1_seg.nii.gz", "CT1_mask.nii.gz"], None),  # two
    ],
)
def test_a_mask_beside_a_series_is_its_own(tmp_path, names, first):
    _, label = neighbours(tmp_path, *names)
    assert label("CT1") == first


def test_a_mask_beside_a_series_may_bear_any_name_of_the_structure(tmp_path):
    root, _ = neighbours(tmp_path, "CT1_hcc.nii.gz", "CT1_seg.nii.gz")
    (case,) = importers.find_dicom(root, "liver, HCC").cases
    assert case.label == Label.single(root / "CT1_hcc.nii.gz")


def test_masks_that_compete_are_named(tmp_path):
    root, _ = neighbours(tmp_path, "CT1_seg.nii.gz", "CT1_mask.nii.gz")
    lines = [line for line in importers.find_dicom(root).left_out if "CT1/" in line]
    assert lines == [
        f"{root}/CT1/i0001.dcm: its series has 2 masks of the liver: CT1_mask.nii.gz, CT1_seg.nii.gz; accepted: one"
    ]


@real_ct
def test_a_real_archive(tmp_path):
    """All of the real files at once, whatever they are: the JPEG 2000 series has the mask of many organs beside it."""
    output = command("dicom", REAL, "--liver-values", "5", "--to", tmp_path / "cohort.tsv")
    table = read_cohort(tmp_path / "cohort.tsv")
    assert [Path(path).name for path in table["image"]] == ["dicom_jpeg2000"]
    assert "Modality is MR" in output
    faults, measured = check_contents(table, 1)
    assert not faults
    assert measured.loc[0, "slices"] == 20
