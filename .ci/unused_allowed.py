"""Names that vulture takes for unused and that are used all the same; behind each, who uses it.

vulture reads this file beside the package (pyproject.toml says so): a name that stands here counts as used.
"""

# Python, click, pydantic, Jupyter
_._repr_html_  # a notebook asks a value for it
__getattr__, __dir__  # Python asks a module for names that it lacks, and for all of them
_.format_commands  # click asks the group for its commands
_.get_metavar, param  # click asks a type how its values are written in a help text
_.obj  # click keeps the global options there, and ``find_object`` gives them back
_.model_config  # pydantic reads it
_.needs_channels  # isinstance looks for it: the protocol ChannelEstimator can be checked at run time

# What tables name as text, "module:name"
F1, MeanIoU, ErrorRate, Spearman, AreaUnderCurve, Agreement, Noise  # calib.metrics.METRICS
ClassAccuracy, Ssim, TextAccuracy, VocMap, mae, mse, psnr  # calib.metrics.METRICS
Classification, BoxesScores, DetectionRows, RawSsd  # calib.outputs.DECODERS
YoloV2, YoloV3, YoloV5, YoloV8, YoloEndToEnd, YoloX, Segmentation, Ctc  # calib.outputs.DECODERS
open_npz, open_npy, open_images, open_csv, open_jsonl, open_python  # calib.samples.FORMATS
open_accuracy_check  # calib.samples.FORMATS
open_coco, open_voc, open_yolo, open_wider, open_masks, open_imagenet, open_text  # calib.samples.FORMATS

# What other programs read of what calib writes
_.schema_version  # whoever reads report.json or what --json prints
_.bound_s  # whoever reads report.json
_.hidden, _.help  # the page's script reads the columns of a table
_.linked  # the template of a drawing of the studio asks it

# Set on objects of libraries
_.create_system  # zipfile writes it into the entries
_.StartElementHandler, _.EndElementHandler, _.CharacterDataHandler  # expat calls them
_.StartDoctypeDeclHandler, _.EntityDeclHandler  # expat calls them
_.inter_op_num_threads, _.intra_op_num_threads, _.log_severity_level  # onnxruntime's session options
