"""The ledger of reproductions: own runs beside the paper's figures, and a verdict on its claims."""

from typing import TYPE_CHECKING

from keras_resnet.utils.deferral import deferred

deferred(__name__)

if TYPE_CHECKING:  # Modules that are attributes, as `deferred` says.
    from keras_resnet.experiment.ledger import page as page
    from keras_resnet.experiment.ledger import records as records
    from keras_resnet.experiment.ledger import rules as rules
    from keras_resnet.experiment.ledger import running as running
