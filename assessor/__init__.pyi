from assessor.api import assess as assess
from assessor.api import measure as measure

__version__: str
