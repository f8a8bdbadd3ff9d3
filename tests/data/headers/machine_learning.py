# expect: 0
# /// script
# requires-python = ">=3.11"
# dependencies = ["scikit-learn>=1.5", "joblib"]
# ///
from sklearn.linear_model import LinearRegression

assert LinearRegression().fit([[0], [1]], [0, 1]).coef_[0] > 0.99
