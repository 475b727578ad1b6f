"""What the figures of the evaluation on the simulated table are called in the documents."""

MEASURES = {
    'box_accuracy_50': '**all of these**',
    'box_accuracy_50_needed_relation': 'the noun alone would be ambiguous',
    'box_accuracy_50_held_out_objects': 'the target is a held-out object',
    'box_accuracy_75': 'all of these, Acc@0.75',
    'absent_rejected': 'absent things rejected',
    'count_exact': 'counts exact',
    'yes_no_right': 'yes or no right',
    'task_right': 'task right, all tasks',
    'argument_exact': 'argument of a call, word for word',
    'layout_numerical': 'layouts: numbers right',
    'layout_spatial': 'layouts: places right',
    'captions_right': 'captions right',
    'right': 'all questions of all tasks right',
    'mask_ciou': 'masks, cIoU',
    'parses': 'answers that parse',
}
